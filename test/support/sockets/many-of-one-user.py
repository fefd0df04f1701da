#!/usr/bin/python3
"""Opens as many sockets or descriptors as it is told to, as one user, prints one line of JSON, and holds them until standard input ends.

usage: many-of-one-user.py UID [tcp=N] [udp=N] [shared=N] [raw=N] [fds=N] [unix=N] [names=N]

tcp: listeners, each on an address or port of its own. udp: bound sockets. shared: listeners that share one address and port, which the kernel
keeps in one list. raw: raw sockets. fds: descriptors of one file. unix: Unix sockets. They are spread over processes with as many descriptors
as each may have. names: processes with a listener and 1.8 MB of arguments. `opened` in the line of JSON is how many of each kind are open: less than asked for where the kernel refuses more.
"""

import json
import os
import resource
import socket
import sys

SPARE_DESCRIPTORS = 64
PORTS = 60000
FIRST_PORT = 2000
SO_REUSEPORT = 15


def place(i):
    return (f"127.{100 + i // PORTS}.{int(sys.argv[1]) % 250}.1", FIRST_PORT + i % PORTS)


def open_tcp(i):
    one = socket.socket()
    one.bind(place(i))
    one.listen(1)
    return one.detach()


def open_udp(i):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(place(i))
    return one.detach()


def open_shared(_i):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    one.bind(("127.99.0.1", FIRST_PORT))
    one.listen(1)
    return one.detach()


def open_raw(_i):
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, 255).detach()


def open_unix(_i):
    return socket.socket(socket.AF_UNIX).detach()


OPENERS = {
    "tcp": open_tcp,
    "udp": open_udp,
    "shared": open_shared,
    "raw": open_raw,
    "unix": open_unix,
    "fds": lambda _i: os.dup(0),
}


LONG_NAMED = """
import os, socket, sys
one = socket.create_server(("127.98.0.1", 0))
os.write(int(sys.argv[1]), b'["names", 1]\\n')
os.close(int(sys.argv[1]))
while os.read(0, 4096):
    pass
"""


def run_long_named(uid, ready):
    os.setuid(uid)
    os.set_inheritable(ready, True)
    os.execv(sys.executable, [sys.executable, "-c", LONG_NAMED, str(ready), *["x" * 100_000] * 18])


def hold(uid, kind, start, count, ready):
    if kind != "raw":
        os.setuid(uid)
    held = 0
    try:
        for i in range(start, start + count):
            OPENERS[kind](i)
            held += 1
    except OSError:
        pass
    os.write(ready, json.dumps([kind, held]).encode() + b"\n")
    os.close(ready)
    while os.read(0, 4096):
        pass


def main():
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = hard - SPARE_DESCRIPTORS
    reading, ready = os.pipe()
    children = []
    for argument in sys.argv[2:]:
        kind, _, wanted = argument.partition("=")
        step = 1 if kind == "names" else most
        for start in range(0, int(wanted), step):
            pid = os.fork()
            if pid == 0:
                os.close(reading)
                if kind == "names":
                    run_long_named(int(sys.argv[1]), ready)
                hold(int(sys.argv[1]), kind, start, min(step, int(wanted) - start), ready)
                os._exit(0)
            children.append(pid)
    os.close(ready)
    opened = {}
    for line in b"".join(iter(lambda: os.read(reading, 4096), b"")).splitlines():
        kind, held = json.loads(line)
        opened[kind] = opened.get(kind, 0) + held
    print(json.dumps({"pid": os.getpid(), "opened": opened}), flush=True)
    for pid in children:
        os.waitpid(pid, 0)


main()
