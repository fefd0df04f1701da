#!/usr/bin/env python3
"""Ends TCP connections in every way, in a network namespace of its own, and prints one line of JSON for each end of each connection:
how it ended, the event of its destruction in hexadecimal, what a scan could know of it, and its payload in bytes.

usage: unshare --net endings.py
"""

import json
import os
import signal
import socket
import struct
import subprocess
import time

NETLINK_SOCK_DIAG = 4
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
DESTROY_GROUPS = (1, 3)
LINGER_0 = struct.pack("ii", 1, 0)
TCP_CORK = 3
FIN_WAIT2 = 5
TIME_WAIT = 6


def diag(groups=()):
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    made.bind((0, 0))
    for group in groups:
        made.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return made


def dump():
    """Rows as (local port, remote port): (state, timer, inode)."""
    rows = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        DUMPS.send(struct.pack("IHHIIBBBBI48x", 72, 20, 0x301, 1, 0, family, socket.IPPROTO_TCP, 2, 0, 0x1FFE))
        done = False
        while not done:
            received, at = DUMPS.recv(1 << 16), 0
            while at + 16 <= len(received):
                length, kind = struct.unpack_from("IH", received, at)
                done = kind in (2, 3)
                if done:
                    break
                body = received[at + 16 : at + length]
                (inode,) = struct.unpack_from("I", body, 68)
                rows[struct.unpack_from(">HH", body, 4)] = (body[1], body[2], inode)
                at += (length + 3) & ~3
    return rows


def is_time_wait(state, timer):
    return state == TIME_WAIT or (state == FIN_WAIT2 and timer == 3)


class End:
    """One end of a connection: its payload, and what the last scan knew of it."""

    def __init__(self, sock, key):
        self.sock, self.key, self.sent, self.received, self.last, self.held, self.left = sock, key, 0, 0, 0, False, False

    def send(self, count, arrives=True):
        self.sock.sendall(b"x" * count)
        self.sent += count
        if arrives:
            self.peer.received += count
            time.sleep(0.002)

    def read(self):
        self.sock.recv(1 << 20)


class Connection:
    def __init__(self, family=socket.AF_INET, address="127.0.0.1", accept=True):
        listener = LISTENERS[family, address]
        sock = socket.socket(family)
        sock.connect((address, listener.getsockname()[1]))
        local, remote = sock.getsockname()[1], sock.getpeername()[1]
        self.client = End(sock, (local, remote))
        self.server = End(listener.accept()[0] if accept else None, (remote, local))
        self.client.peer, self.server.peer = self.server, self.client
        if accept:
            self.client.send(1000)
            self.server.read()
            self.server.send(300)
            self.client.read()

    def scan(self):
        rows = dump()
        for end in (self.client, self.server):
            if end.key in rows:
                state, timer, inode = rows[end.key]
                if is_time_wait(state, timer):
                    end.left = True
                else:
                    end.last, end.held = state, inode != 0


def client_first(c):
    c.client.sock.close()
    time.sleep(0.05)
    c.server.read()
    c.server.sock.close()


def server_first(c):
    c.server.sock.close()
    c.client.read()
    c.client.sock.close()


def eof_unread(c):
    c.client.sock.close()
    time.sleep(0.05)
    c.server.sock.close()


def both_at_once(c):
    c.client.sock.close()
    c.server.sock.close()


def half_close(c):
    c.client.sock.shutdown(socket.SHUT_WR)
    c.server.read()
    c.server.send(50)
    c.server.sock.close()
    c.client.read()
    c.client.read()
    c.client.sock.close()


def half_close_scanned(c):
    c.client.sock.shutdown(socket.SHUT_WR)
    c.scan()
    c.server.read()
    c.server.send(50)
    c.server.sock.close()
    c.client.read()
    c.client.read()
    c.client.sock.close()


def half_close_unread(c):
    c.client.sock.shutdown(socket.SHUT_WR)
    c.server.read()
    c.server.send(50)
    c.client.sock.close()
    time.sleep(0.05)
    c.server.sock.close()


def both_shut(c):
    c.client.sock.shutdown(socket.SHUT_WR)
    c.server.sock.shutdown(socket.SHUT_WR)
    time.sleep(0.05)
    c.client.sock.close()
    c.server.sock.close()


def unread_data(c):
    c.server.send(500)
    c.client.sock.close()
    time.sleep(0.05)
    c.server.sock.close()


def unread_byte(c):
    c.server.send(1)
    c.client.sock.close()
    time.sleep(0.05)
    c.server.sock.close()


def unread_data_and_fin(c):
    c.server.send(500)
    c.server.sock.close()
    time.sleep(0.05)
    c.client.sock.close()


def unread_data_and_fin_scanned(c):
    c.server.send(500)
    c.server.sock.close()
    c.scan()
    c.client.sock.close()


def reset_by_peer(c):
    c.server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    c.server.sock.close()
    # tcp_disconnect() discards what it counted.
    c.server.sent = c.server.received = 0
    c.client.sock.close()


def reset_after_fin(c):
    c.server.sock.close()
    time.sleep(0.05)
    c.client.send(100, arrives=False)
    time.sleep(0.05)
    c.client.sock.close()


def reset_after_read_eof(c):
    c.server.sock.close()
    time.sleep(0.05)
    c.client.read()
    c.scan()
    c.client.send(100, arrives=False)
    time.sleep(0.05)
    c.client.sock.close()


def fin_with_data(c):
    c.client.sock.setsockopt(socket.IPPROTO_TCP, TCP_CORK, 1)
    c.client.send(50, arrives=False)
    c.server.received += 50
    c.client.sock.close()
    time.sleep(0.05)
    c.server.read()
    c.server.read()
    c.server.sock.close()


def shut_read(c):
    c.server.sock.shutdown(socket.SHUT_RD)
    c.client.sock.close()
    time.sleep(0.05)
    c.server.sock.close()


def sends_nothing(c):
    c.client.sock.close()
    time.sleep(0.05)
    c.server.sock, _ = LISTENERS[socket.AF_INET, "127.0.0.1"].accept()
    c.server.read()
    c.server.sock.close()


def killed(c):
    """Ends a process that holds the only copy of both ends."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    c.client.sock.close()
    c.server.sock.close()
    time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def killed_client(c):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    c.client.sock.close()
    time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.05)
    c.server.read()
    c.server.sock.close()


def closes_before_reply(c):
    c.client.sock.close()
    time.sleep(0.05)
    c.server.send(10, arrives=False)
    time.sleep(0.05)
    c.server.sock.close()


def only_received(c):
    c.server.send(1)
    c.client.read()
    client_first(c)


V4 = (socket.AF_INET, "127.0.0.1")
WAYS = [
    ("the client closes first", client_first, {}),
    ("the client closes first, tcp6", client_first, {"family": socket.AF_INET6, "address": "::1"}),
    ("the server closes first", server_first, {}),
    ("the server closes first, tcp6", server_first, {"family": socket.AF_INET6, "address": "::1"}),
    ("passive close without reading the end of the stream", eof_unread, {}),
    ("both close at once", both_at_once, {}),
    ("shutdown(SHUT_WR), then read to the end", half_close, {}),
    ("shutdown(SHUT_WR), then read to the end, with a scan between", half_close_scanned, {}),
    ("shutdown(SHUT_WR), then close with 50 unread bytes", half_close_unread, {}),
    ("both call shutdown(SHUT_WR)", both_shut, {}),
    ("close with 500 unread bytes", unread_data, {}),
    ("close with one unread byte", unread_byte, {}),
    ("close with 500 unread bytes and the FIN", unread_data_and_fin, {}),
    ("close with 500 unread bytes and the FIN, after a scan", unread_data_and_fin_scanned, {}),
    ("SO_LINGER 0", reset_by_peer, {}),
    ("reset by a peer that had closed", reset_after_fin, {}),
    ("reset by a peer that had closed, after a read of the end and a scan", reset_after_read_eof, {}),
    ("the FIN is in the last segment of data", fin_with_data, {}),
    ("shutdown(SHUT_RD)", shut_read, {}),
    ("no data", sends_nothing, {"accept": False}),
    ("a killed process held both ends", killed, {}),
    ("a killed process held the client", killed_client, {}),
    ("data for a client that had closed", closes_before_reply, {}),
    ("one byte more", only_received, {}),
]


def events():
    found = {}
    while True:
        try:
            received = EVENTS.recv(1 << 16)
        except BlockingIOError:
            return found
        found[struct.unpack_from(">H", received, 20)[0]] = received


def main():
    for name, end, options in WAYS:
        connection = Connection(**options)
        events()
        end(connection)
        time.sleep(0.05)
        found, rows = events(), dump()
        for side in ("client", "server"):
            one = getattr(connection, side)
            state, timer, _ = rows.get(one.key, (0, 0, 0))
            print(
                json.dumps(
                    {
                        "name": name,
                        "side": side,
                        "lastState": one.last,
                        "wasHeld": one.held,
                        "peerSent": one.peer.sent,
                        "leftTimeWait": one.left or is_time_wait(state, timer),
                        "sent": one.sent,
                        "received": one.received,
                        "event": found[one.key[0]].hex(),
                    }
                ),
                flush=True,
            )


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
DUMPS, EVENTS = diag(), diag(DESTROY_GROUPS)
EVENTS.setblocking(False)
LISTENERS = {}
for family, address in (V4, (socket.AF_INET6, "::1")):
    LISTENERS[family, address] = listener = socket.socket(family)
    listener.bind((address, 0))
    listener.listen(50)
main()
