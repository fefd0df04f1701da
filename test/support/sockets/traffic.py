"""TCP connections with known payload, for tests of bytes and of ended connections.

    traffic.py serve ADDRESS PORT [--listener-ends-after N]
    traffic.py call ADDRESS PORT --connections N --rate N --sent BYTES --received BYTES [--end WAY[,WAY...]] [--from-port PORT]
        [--by self|fork|pass] [--together] [--keep]

Each connection begins with a header of 16 bytes: how much the caller sends after it, how much it wants back, and how the
connection ends. Both processes print "ready" first, and one line of JSON when they are done: connections, sent and received payload,
headers included, and the bytes that the kernel sent again, as it says before the close. They end with their standard input.

    --by fork            a child of the caller sends and closes
    --by pass            another process gets the descriptor by SCM_RIGHTS, sends and closes
    --from-port          the port of the caller, for each connection
    --together           all connections are open until the standard input ends
    --keep               one more connection is open from before "ready" until the end
    --listener-ends-after  the server closes its listener after so many connections

Ways to end:

    client     the caller closes first, after it read everything
    server     the server closes first, and the caller reads the end of the stream
    early      the server closes first, and the caller closes without reading the end of the stream
    half       the caller shuts down its sending side first and reads the answer and the end of the stream after that
    reset      the caller closes while the answer is unread: the kernel sends RST
    linger     the caller closes with SO_LINGER 0
"""

import argparse
import json
import os
import select
import socket
import struct
import sys
import time

WAYS = ["client", "server", "early", "half", "reset", "linger"]
HEADER = struct.Struct("!IIII")
# struct tcp_info, include/uapi/linux/tcp.h
TCP_INFO_BYTES_RETRANS = 208


def sent_again(connection):
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("=Q", info, TCP_INFO_BYTES_RETRANS)[0]


def read_exactly(connection, wanted):
    while wanted > 0:
        got = len(connection.recv(min(wanted, 1 << 16)))
        if got == 0:
            raise ConnectionError("the stream ended early")
        wanted -= got


def call(options):
    ways = [WAYS.index(way) for way in options.end.split(",")]
    totals = {"connections": 0, "sent": 0, "received": 0, "retransmitted": 0}
    kept = start(options, WAYS.index("client"), totals, 0) if options.keep else None
    print("ready", flush=True)
    helper = Helper(options) if options.by == "pass" else None
    begun = time.monotonic()
    opened = []
    for number in range(options.connections):
        way = ways[number % len(ways)]
        delay = begun + number / options.rate - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        connection = start(options, way, totals, options.from_port)
        if options.together:
            opened.append((connection, WAYS[way]))
        else:
            hand_over(connection, options, WAYS[way], totals, helper)
    print("done", flush=True)
    sys.stdin.read()
    for connection, way in opened:
        hand_over(connection, options, way, totals, helper)
    if kept:
        finish(kept, options, "client", totals)
    print(json.dumps(totals), flush=True)


def start(options, way, totals, port):
    connection = socket.socket(socket.AF_INET6 if ":" in options.address else socket.AF_INET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port:
        connection.bind(("", port))
    connection.connect((options.address, options.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HEADER.pack(options.sent, options.received, way, 0) + b"x" * options.sent)
    totals["connections"] += 1
    totals["sent"] += HEADER.size + options.sent
    totals["received"] += options.received
    return connection


class Helper:
    """Another process that ends the connections whose descriptors it gets."""

    def __init__(self, options):
        self.ours, theirs = socket.socketpair()
        if os.fork() == 0:
            self.ours.close()
            while True:
                way, descriptors, _, _ = socket.recv_fds(theirs, 64, 1)
                if not way:
                    os._exit(0)
                finish(socket.socket(fileno=descriptors[0]), options, way.decode(), {"retransmitted": 0})
                theirs.send(b"x")
        theirs.close()

    def end(self, connection, way):
        socket.send_fds(self.ours, [way.encode()], [connection.fileno()])
        connection.close()
        self.ours.recv(1)


def hand_over(connection, options, way, totals, helper):
    if helper:
        helper.end(connection, way)
    elif options.by == "fork":
        child = os.fork()
        if child == 0:
            finish(connection, options, way, totals)
            os._exit(0)
        connection.close()
        os.waitpid(child, 0)
    else:
        finish(connection, options, way, totals)


def finish(connection, options, way, totals):
    if way == "half":
        connection.shutdown(socket.SHUT_WR)
    if way == "reset":
        while len(connection.recv(1 << 20, socket.MSG_PEEK)) < options.received:
            time.sleep(0.0005)
    else:
        read_exactly(connection, options.received)
    if way == "early":
        # The FIN of the server has arrived: it is readable, and stays unread.
        select.select([connection], [], [])
    if way in ("server", "half"):
        assert connection.recv(1) == b""
    if way == "linger":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    totals["retransmitted"] += sent_again(connection)
    connection.close()


class Served:
    """A connection of the server: what it still has to read and to write."""

    def __init__(self, connection):
        self.connection = connection
        self.header = b""
        self.read = 0
        self.wanted = None
        self.unsent = 0
        self.way = None


def serve(options):
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    listener = socket.create_server((options.address, options.port), family=family, backlog=4096)
    listener.setblocking(False)
    totals = {"connections": 0, "sent": 0, "received": 0, "retransmitted": 0}
    poll = select.epoll()
    listener_fd = listener.fileno()
    poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    served = {}
    print("ready", flush=True)
    is_ending = False
    while not is_ending or served:
        for number, _ in poll.poll(0.05 if is_ending else -1):
            if number == listener_fd:
                accept(listener, poll, served, totals)
                if options.listener_ends_after and totals["connections"] >= options.listener_ends_after:
                    poll.unregister(listener)
                    listener_fd = -1
                    listener.close()
            elif number == sys.stdin.fileno():
                is_ending = not os.read(number, 1024)
                if is_ending:
                    poll.unregister(number)
                    deadline = time.monotonic() + 2
            elif number in served and step(served[number], totals):
                poll.unregister(number)
                connection = served.pop(number).connection
                totals["retransmitted"] += sent_again(connection)
                connection.close()
        if is_ending and time.monotonic() > deadline:
            break
    print(json.dumps(totals), flush=True)


def accept(listener, poll, served, totals):
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        totals["connections"] += 1
        served[connection.fileno()] = Served(connection)
        poll.register(connection, select.EPOLLIN)


def step(one, totals):
    """Reads what is there, and answers a whole request. Returns whether the connection is to be closed."""
    while True:
        try:
            data = one.connection.recv(1 << 16)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        if not data:
            return True
        totals["received"] += len(data)
        one.read += len(data)
        one.header += data[: HEADER.size - len(one.header)]
        if len(one.header) < HEADER.size:
            continue
        if one.wanted is None:
            sent, one.unsent, way, _ = HEADER.unpack(one.header)
            one.wanted = HEADER.size + sent
            one.way = WAYS[way]
        if one.read < one.wanted:
            continue
        one.connection.setblocking(True)
        one.connection.sendall(b"y" * one.unsent)
        totals["sent"] += one.unsent
        one.connection.setblocking(False)
        if one.way in ("server", "early"):
            return True


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["serve", "call"])
parser.add_argument("address")
parser.add_argument("port", type=int)
parser.add_argument("--connections", type=int, default=1)
parser.add_argument("--rate", type=float, default=1e9)
parser.add_argument("--sent", type=int, default=0)
parser.add_argument("--received", type=int, default=0)
parser.add_argument("--end", default="client")
parser.add_argument("--from-port", type=int, default=0)
parser.add_argument("--by", choices=["self", "fork", "pass"], default="self")
parser.add_argument("--together", action="store_true")
parser.add_argument("--keep", action="store_true")
parser.add_argument("--listener-ends-after", type=int, default=0)
arguments = parser.parse_args()
{"serve": serve, "call": call}[arguments.what](arguments)
