#!/usr/bin/env python3
"""Runs a command with inherited sockets, as systemd passes them.

usage: with-listeners.py KIND... -- COMMAND...
  KIND  tcp (a port of 127.0.0.1), unix:PATH, udp (a datagram socket), or netlink (the socket "dump")
"""

import fcntl
import os
import socket
import sys

end = sys.argv.index("--")
kinds, command = sys.argv[1:end], sys.argv[end + 1 :]


def open_socket(kind):
    if kind == "netlink":
        one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    elif kind.startswith("unix:"):
        one = socket.socket(socket.AF_UNIX)
        one.bind(kind[len("unix:") :])
        one.listen()
    else:
        one = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        one.bind(("127.0.0.1", 0))
        if kind == "tcp":
            one.listen()
    return one


sockets = [open_socket(kind) for kind in kinds]
copies = [fcntl.fcntl(one, fcntl.F_DUPFD, 10 + len(kinds)) for one in sockets]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
    os.close(copy)
names = ":".join("dump" if kind == "netlink" else "http" for kind in kinds)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kinds)), LISTEN_FDNAMES=names)
os.execvp(command[0], command)
