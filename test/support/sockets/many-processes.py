#!/usr/bin/python3
"""Many processes. Most are idle. All end with standard input. Meant as pid 1 of a PID namespace.

usage: many-processes.py SLEEPERS SOCKETS

SLEEPERS processes wait for signals. One more holds SOCKETS unconnected UDP sockets in a network namespace of its own, where the
processes of storms live too. Prints a line of JSON once all are there, and one for each line of standard input:

storm SECONDS LOOPS   LOOPS loops fork processes as fast as they can; each opens a listening TCP socket and ends. At most 2,000
                      forks a second in each loop. Answers how many there were.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time

CLONE_NEWNET = 0x40000000
MOST_A_SECOND = 2000


def fork(run, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            run(*arguments)
        finally:
            os._exit(0)
    return pid


def hold(sockets, ready):
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "Cannot make a network namespace")
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sockets)]
    for one in held:
        one.bind(("", 0))
    os.write(ready, b"!")
    signal.pause()


def storm(end, count):
    begun = time.monotonic()
    forks = 0
    while time.monotonic() < end:
        if forks > (time.monotonic() - begun) * MOST_A_SECOND:
            time.sleep(0.001)
            continue
        os.waitpid(fork(socket.create_server, ("", 0)), 0)
        forks += 1
    os.write(count, forks.to_bytes(8, "little"))


def main():
    if len(sys.argv) != 3 or not all(word.isdecimal() for word in sys.argv[1:]):
        sys.exit(__doc__)
    sleepers, sockets = map(int, sys.argv[1:])
    for _ in range(sleepers):
        fork(signal.pause)
    reading, ready = os.pipe()
    holder = fork(hold, sockets, ready)
    os.close(ready)
    if os.read(reading, 1) != b"!":
        sys.exit("Cannot hold the sockets")
    namespace = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    ctypes.CDLL(None).setns(namespace, CLONE_NEWNET)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        _, seconds, loops = line.split()
        reading, count = os.pipe()
        end = time.monotonic() + float(seconds)
        for pid in [fork(storm, end, count) for _ in range(int(loops))]:
            os.waitpid(pid, 0)
        forks = sum(int.from_bytes(os.read(reading, 8), "little") for _ in range(int(loops)))
        os.close(reading)
        os.close(count)
        print(json.dumps({"forks": forks}), flush=True)


main()
