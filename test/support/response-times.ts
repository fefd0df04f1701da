/**
 * Requests a URL at a fixed interval in milliseconds, whether or not the last answer has come, until standard input ends. Then prints one
 * line of JSON: the `times` that answers took in milliseconds, null for what was not answered with 200, and the `delays` by
 * which its own timer was late. A process of its own, so that it measures no work but the server's.
 *
 * usage: response-times.ts URL MILLISECONDS
 */
import { Agent, get } from 'node:http';

const [url = '', every = ''] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true });
const requests: Promise<number | null>[] = [];
const delays: number[] = [];
let last = performance.now();

function ask(): Promise<number | null> {
  const begun = performance.now();
  return new Promise((resolve) => {
    get(url, { agent }, (response) => {
      const answered = response.statusCode === 200;
      response.resume().on('end', () => resolve(answered ? performance.now() - begun : null));
    }).on('error', () => resolve(null));
  });
}

const timer = setInterval(() => {
  const now = performance.now();
  delays.push(now - last - Number(every));
  last = now;
  requests.push(ask());
}, Number(every));

process.stdin.resume().once('end', () => {
  clearInterval(timer);
  void Promise.all(requests).then((times) => {
    agent.destroy();
    process.stdout.write(`${JSON.stringify({ times, delays })}\n`);
  });
});
