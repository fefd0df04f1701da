#!/usr/bin/env python3
"""Runs a command with netlink descriptors 3 "dump" and 4 "ended", as systemd hands them over.

usage: with-netlink.py [--blocking] [--protocol N] [--groups N,N] [--foreign] COMMAND...
  --foreign  the sockets are of another network namespace than the command
"""

import argparse
import ctypes
import fcntl
import os
import socket

CLONE_NEWNET = 0x40000000
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1

parser = argparse.ArgumentParser()
parser.add_argument("--blocking", action="store_true")
parser.add_argument("--foreign", action="store_true")
parser.add_argument("--protocol", type=int, default=4)
parser.add_argument("--groups", default="1,3")
parser.add_argument("command", nargs=argparse.REMAINDER)
arguments = parser.parse_args()

sockets = [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, arguments.protocol) for _ in range(2)]
for one in sockets:
    one.bind((0, 0))
    one.setblocking(arguments.blocking)
for group in filter(None, arguments.groups.split(",")):
    sockets[1].setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int(group))
copies = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in sockets]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
for copy in copies:
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="dump:ended")
if arguments.foreign:
    ctypes.CDLL(None).unshare(CLONE_NEWNET)
os.execvp(arguments.command[0], arguments.command)
