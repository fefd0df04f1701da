#!/usr/bin/python3
"""Opens many TCP connections over loopback, prints one line of JSON once they stand, and holds both ends until standard input ends.

usage: many-connections.py PAIRS

The ends are spread over 127/8 and over several processes, each with as many descriptors as it may have. The rows of the
kernel's tables are two for each pair and one for the listener of each process. `opened` in the line of JSON is empty: it is
for sockets that differ from each other.
"""

import json
import os
import resource
import socket
import sys

MOST_PAIRS = 5000  # of one process
SPARE_DESCRIPTORS = 64


def hold(number, pairs, ready):
    """Opens the pairs of one process: a listener on 127.NUMBER.0.1, and each client with an address of its own."""
    listening = socket.create_server((f"127.{number}.0.1", 0), backlog=16)
    held = [listening]
    for i in range(pairs):
        source = f"127.{number}.{1 + i // 250}.{1 + i % 250}"
        client = socket.create_connection(listening.getsockname(), source_address=(source, 0))
        held += [client, listening.accept()[0]]
    os.write(ready, b"!")
    os.close(ready)
    while os.read(0, 4096):
        pass


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    pairs = int(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(MOST_PAIRS, (hard - SPARE_DESCRIPTORS) // 2)
    shares = [min(most, pairs - start) for start in range(0, pairs, most)]
    reading, ready = os.pipe()
    children = []
    for number, share in enumerate(shares, start=1):
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            hold(number, share, ready)
            os._exit(0)
        children.append(pid)
    os.close(ready)
    if len(b"".join(iter(lambda: os.read(reading, 4096), b""))) != len(shares):
        sys.exit("Cannot open all connections: a process ended before")
    print(json.dumps({"pid": os.getpid(), "opened": []}), flush=True)
    for pid in children:
        os.waitpid(pid, 0)


main()
