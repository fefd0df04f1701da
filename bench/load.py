#!/usr/bin/python3
"""Holds sockets and changes them by commands on standard input, until its end. Answers each command with a line of JSON.

usage: load.py ROWS PROCESSES IDLE_PROCESSES [IDLE_DESCRIPTORS]

PROCESSES processes hold ROWS established rows (nine tenths tcp, the rest tcp6, both ends of every connection) and ROWS / 50 UDP
sockets (a third udp6). Each idle process has 20 descriptors (or IDLE_DESCRIPTORS) that are not sockets.

churn PERCENT PROCESSES   replaces a share of the connections, in a number of processes, without leaving TIME_WAIT
time-wait ROWS            tops up the rows in TIME_WAIT, which last for a minute
remotes COUNT NETWORKS    connects COUNT UDP sockets to new public peers, drawn at random from NETWORKS /24s (0: all)
namespaces COUNT KIND     adds network namespaces with one process each, `empty`, with one `listener`, or a `pod`: a listener and a
                          connection to it; answers the PIDs
traffic BYTES             sends this many bytes over the connection of each pod
"""

import ctypes
import fcntl
import json
import os
import random
import resource
import signal
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
RESET = struct.pack("ii", 1, 0)
IDLE_DESCRIPTORS = 20

libc = ctypes.CDLL(None, use_errno=True)


class Worker:
    """The sockets of one process. Every process has its own addresses, so ports do not run out."""

    def __init__(self, number):
        self.number = number
        self.random = random.Random(number)
        self.host = f"127.1.{number // 200}.{1 + number % 200}"
        self.listeners = {
            socket.AF_INET: socket.create_server((self.host, 0)),
            socket.AF_INET6: socket.create_server(("::1", 0), family=socket.AF_INET6),
        }
        self.pairs = []
        self.udp = []
        self.peers = []

    def connect(self, family):
        listener = self.listeners[family]
        client = socket.socket(family)
        if family == socket.AF_INET:
            # The port is chosen at connect(): it need only differ for this pair of addresses.
            client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            client.bind((f"127.{2 + self.number // 250}.{self.number % 250}.{self.random.randint(1, 250)}", 0))
        client.connect(listener.getsockname())
        return family, client, listener.accept()[0]

    def hold(self, pairs, pairs6, udp, udp6):
        self.pairs = [self.connect(socket.AF_INET) for _ in range(pairs)]
        self.pairs += [self.connect(socket.AF_INET6) for _ in range(pairs6)]
        for family, host, count in (socket.AF_INET, self.host, udp), (socket.AF_INET6, "::1", udp6):
            for _ in range(count):
                one = socket.socket(family, socket.SOCK_DGRAM)
                one.bind((host, 0))
                self.udp.append(one)

    def churn(self, count):
        for i in self.random.sample(range(len(self.pairs)), min(count, len(self.pairs))):
            family, client, server = self.pairs[i]
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            server.close()
            self.pairs[i] = self.connect(family)

    def time_wait(self, count):
        for _ in range(count):
            _, client, server = self.connect(socket.AF_INET)
            client.close()
            server.recv(1)
            server.close()

    def remotes(self, count, networks):
        for one in self.peers:
            one.close()
        self.peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        for one in self.peers:
            # 11/8 to 99/8 is public and unicast throughout.
            bits = self.random.randint(11 << 24, (11 << 24) + (networks << 8) - 1 if networks else (100 << 24) - 1)
            one.connect((socket.inet_ntoa(struct.pack("!I", bits)), 443))


def fork(run, *arguments):
    """Forks a child that answers lines of numbers with a byte. Returns file descriptors for commands and answers."""
    commands, command = os.pipe()
    answer, answers = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(commands, 0)
        os.dup2(answers, 1)
        os.closerange(3, command + 3)
        run(*arguments)
        os._exit(0)
    os.close(commands)
    os.close(answers)
    return pid, command, answer


def work(number):
    libc.prctl(PR_SET_NAME, f"load-{number}".encode())
    worker = Worker(number)
    while line := sys.stdin.buffer.raw.read(4096):
        name, *numbers = line.split()
        getattr(worker, name.decode())(*map(int, numbers))
        os.write(1, b"!")


def idle(descriptors=IDLE_DESCRIPTORS):
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(descriptors - 3)]
    os.write(1, b"!")
    while os.read(0, 4096):
        pass
    return held


def live_elsewhere(kind):
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "Cannot make a network namespace")
    if kind == "pod":
        return serve_itself()
    listener = socket.create_server(("", 0)) if kind == "listener" else None
    idle()
    return listener


def serve_itself():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server = listener.accept()[0]
    os.write(1, b"!")
    while line := os.read(0, 4096):
        left = int(line)
        client.send(b"." * left)
        while left > 0:
            left -= len(server.recv(left))
        os.write(1, b"!")


def shares(total, parts):
    """Splits a number into nearly equal parts, the larger ones first."""
    return [total // parts + (1 if i < total % parts else 0) for i in range(parts)]


def tell(workers, name, *columns):
    """Sends a line of numbers to every worker and waits until all are done."""
    rows = list(zip(workers, *columns))
    for (_, command, _), *numbers in rows:
        os.write(command, " ".join([name, *map(str, numbers)]).encode())
    for (_, _, answer), *_ in rows:
        if os.read(answer, 1) != b"!":
            sys.exit(f"Cannot {name}: a process ended")


def time_wait_rows():
    with open("/proc/self/net/sockstat", encoding="ascii") as file:
        words = next(line for line in file if line.startswith("TCP:")).split()
    return int(words[words.index("tw") + 1])


def main():
    if len(sys.argv) not in (4, 5) or not all(word.isdecimal() for word in sys.argv[1:]):
        sys.exit(__doc__)
    rows, processes, idle_processes, *rest = map(int, sys.argv[1:])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    workers = [fork(work, number) for number in range(processes)]
    others = [fork(idle, *rest) for _ in range(idle_processes)]
    for _, _, answer in others:
        os.read(answer, 1)
    pods = []
    columns = [rows * 9 // 20, rows // 20, rows * 2 // 150, rows // 150]
    tell(workers, "hold", *(shares(column, processes) for column in columns))
    print(json.dumps({"pid": workers[0][0]}), flush=True)
    for line in sys.stdin:
        name, first, *rest = line.split()
        told = {}
        if name == "churn":
            chosen = workers[: int(rest[0])]
            tell(chosen, "churn", shares(round(rows / 2 * float(first) / 100), len(chosen)))
        elif name == "time-wait":
            missing = max(0, int(first) - time_wait_rows())
            tell(workers, "time_wait", shares(missing, processes))
        elif name == "remotes":
            tell(workers, "remotes", shares(int(first), processes), [int(rest[0])] * processes)
        elif name == "namespaces":
            added = [fork(live_elsewhere, rest[0]) for _ in range(int(first))]
            for _, _, answer in added:
                os.read(answer, 1)
            others += added
            if rest[0] == "pod":
                pods += added
            told = {"pids": [pid for pid, _, _ in added]}
        elif name == "traffic":
            for _, command, _ in pods:
                os.write(command, first.encode())
            for _, _, answer in pods:
                os.read(answer, 1)
        print(json.dumps(told), flush=True)


main()
