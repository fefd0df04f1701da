/** An agent that the program starts as a child: it serves descriptor 3, and its namespace is its pid. */
import { Socket } from 'node:net';
import { helloFrame, talk } from './fake-agent.ts';

talk(new Socket({ fd: 3 }), { greeting: helloFrame({ netns: process.pid }) });
