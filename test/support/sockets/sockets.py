#!/usr/bin/python3
"""Opens sockets of known kinds, prints one line of JSON that says what it opened, and holds them until standard input ends.

usage: sockets.py [--comm TEXT] [--uid UID] KIND=ADDRESS:PORT...

  --comm   the process's comm, with Python's escapes (\\n, \\xff)
  --uid    the user that opens the sockets

Port 0 lets the kernel choose. Every kind that has a listener keeps it open. Kinds:
"""

import argparse
import ctypes
import json
import os
import selectors
import socket
import struct
import sys
import time

UDPLITE = 136
TCP_STATES = {"established": 1, "fin_wait_1": 4, "fin_wait_2": 5, "close_wait": 8, "closing": 11}

held = []  # sockets that must not be closed by the garbage collector
opened = []  # what the line of JSON will say
served = []  # listeners whose connections are accepted until the end
forked = []  # child processes, which end when standard input does


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def end(sockaddr, transport):
    """An end of a socket as rows show it: an IPv4-mapped address as IPv4, no port for a raw socket."""
    address, port = sockaddr[0].split("%")[0].removeprefix("::ffff:"), sockaddr[1]
    return address, None if transport == "raw" else port


def say(transport, state, family, local, remote, sock=None, pids=None):
    """Adds a row to what the line of JSON says. Without `sock` the row has no descriptor."""
    local_address, local_port = end(local, transport)
    remote_address, remote_port = end(remote, transport) if remote else (None, None)
    opened.append(
        {
            "transport": transport,
            "family": 6 if family == socket.AF_INET6 else 4,
            "state": state,
            "local_address": local_address,
            "local_port": local_port,
            "remote_address": remote_address,
            "remote_port": remote_port,
            "inode": os.fstat(sock.fileno()).st_ino if sock else None,
            "pids": pids or ([os.getpid()] if sock else []),
        }
    )


def hold(sock, transport, state, remote=None, pids=None):
    held.append(sock)
    say(transport, state, sock.family, sock.getsockname(), remote, sock, pids)


def await_state(sock, state):
    deadline = time.monotonic() + 5
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_STATES[state]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Cannot bring a socket into {state}")
        time.sleep(0.001)


def deafen(sock):
    """Makes the kernel drop whatever arrives for this socket: a socket filter that lets no byte pass."""
    nothing = (ctypes.c_uint8 * 8)(0x06)
    sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(nothing)))


def listener(address, port, backlog=16, v6only=False, reuseport=False):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuseport:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock


def target(listening):
    """Where a client reaches a listener: the loopback address for a wildcard, as IPv4 for a dual-stack one."""
    address, port = listening.getsockname()[:2]
    if address == "0.0.0.0" or address == "::" and not listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return "127.0.0.1", port
    return ("::1" if address == "::" else address), port


def connected(listening):
    """A new client of a listener, and the accepted end."""
    address, port = target(listening)
    client = socket.create_connection((address, port))
    return client, listening.accept()[0]


def pair_of(address, port):
    listening = listener(address, port)
    hold(listening, "tcp", "listen")
    return connected(listening)


def orphan(sock, state):
    """Closes a socket whose row stays, without a descriptor, in the state given."""
    say("tcp", state, sock.family, sock.getsockname(), sock.getpeername())
    sock.close()


def tcp(sock, state):
    hold(sock, "tcp", state, sock.getpeername())


def wait_for_accept(sock):
    """Waits for the byte that a tcp-listen sends once it has accepted, and acknowledges it at once: no queue stays filled."""
    if sock.recv(1) != b"!":
        raise ConnectionError("Cannot connect: the listener closed")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def serve():
    """Accepts whatever comes, until standard input ends."""
    ready = selectors.DefaultSelector()
    ready.register(sys.stdin, selectors.EVENT_READ)
    for listening in served:
        ready.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is sys.stdin:
                if not os.read(0, 4096):
                    return
            else:
                sock = key.fileobj.accept()[0]
                held.append(sock)
                sock.send(b"!")


def tcp_listen(address, port):
    """a listener that accepts every connection and keeps it; an IPv6 wildcard is dual-stack"""
    sock = listener(address, port)
    hold(sock, "tcp", "listen")
    served.append(sock)


def tcp_listen_v6only(address, port):
    """the same, for IPv6 alone"""
    sock = listener(address, port, v6only=True)
    hold(sock, "tcp", "listen")
    served.append(sock)


def tcp_listen_reuseport(address, port):
    """two listeners on one port (SO_REUSEPORT)"""
    first = listener(address, port, reuseport=True)
    hold(first, "tcp", "listen")
    hold(listener(address, first.getsockname()[1], reuseport=True), "tcp", "listen")


def tcp_listen_forked(address, port):
    """a listener that two child processes share; the first accepts"""
    sock = listener(address, port)
    for child in range(2):
        pid = os.fork()
        if pid == 0:
            os.closerange(1, sock.fileno())
            os.closerange(sock.fileno() + 1, 1024)
            held.clear()
            served[:] = [sock] if child == 0 else []
            serve()
            os._exit(0)
        forked.append(pid)
    hold(sock, "tcp", "listen", pids=[os.getpid(), *forked[-2:]])


def tcp_connect(address, port, source=None):
    """a connection to a tcp-listen of another process; ADDRESS:PORT@SOURCE chooses the own address"""
    sock = socket.create_connection((address, port), source_address=(source, 0) if source else None)
    wait_for_accept(sock)
    tcp(sock, "established")


def tcp_self(address, port):
    """one socket that is connected to itself"""
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.bind((address, port))
    sock.connect(sock.getsockname())
    tcp(sock, "established")


def tcp_pair(address, port):
    """a listener and a connection of this process to itself"""
    for sock in pair_of(address, port):
        tcp(sock, "established")


def tcp_queues(address, port):
    """a connection with 1000 unread bytes, and one with 700 unacknowledged bytes"""
    listening = listener(address, port)
    hold(listening, "tcp", "listen")
    unread, unacknowledged = connected(listening), connected(listening)
    unread[0].send(b"x" * 1000)
    deafen(unacknowledged[1])
    unacknowledged[0].send(b"x" * 700)
    for sock in (*unread, *unacknowledged):
        tcp(sock, "established")


def tcp_backlog(address, port):
    """three clients of a listener that does not accept; the third has closed already"""
    listening = listener(address, port)
    hold(listening, "tcp", "listen")
    for state in ("established", "established", "close_wait"):
        client = socket.create_connection(target(listening))
        say("tcp", state, listening.family, client.getpeername(), client.getsockname())
        if state == "established":
            tcp(client, state)
        else:
            orphan(client, "fin_wait_2")


def tcp_syn_sent(address, port):
    """a connection to an address that does not answer"""
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.connect_ex((address, port))
    hold(sock, "tcp", "syn_sent", (address, port))


def tcp_syn_received(address, port):
    """a connection whose client never receives the answer"""
    listening = listener(address, port)
    hold(listening, "tcp", "listen")
    client = socket.socket(family_of(target(listening)[0]), socket.SOCK_STREAM)
    deafen(client)
    client.setblocking(False)
    client.connect_ex(target(listening))
    hold(client, "tcp", "syn_sent", target(listening))
    say("tcp", "syn_received", listening.family, target(listening), client.getsockname())


def tcp_time_wait(address, port):
    """a connection that both ends have closed, the client first"""
    client, server = pair_of(address, port)
    orphan(client, "time_wait")
    server.recv(1)
    server.close()


def tcp_fin_wait_1(address, port):
    """a connection that the client has closed without the server receiving it"""
    client, server = pair_of(address, port)
    deafen(server)
    orphan(client, "fin_wait_1")
    tcp(server, "established")


def tcp_fin_wait_2(address, port):
    """a connection half closed by the client, which keeps its descriptor"""
    client, server = pair_of(address, port)
    client.shutdown(socket.SHUT_WR)
    await_state(client, "fin_wait_2")
    tcp(client, "fin_wait_2")
    tcp(server, "close_wait")


def tcp_close_wait(address, port):
    """a connection closed by the client, not by the server"""
    client, server = pair_of(address, port)
    orphan(client, "fin_wait_2")
    await_state(server, "close_wait")
    tcp(server, "close_wait")


def tcp_last_ack(address, port):
    """a connection that both ends have closed, and the last acknowledgement does not come"""
    client, server = pair_of(address, port)
    server.shutdown(socket.SHUT_WR)
    await_state(server, "fin_wait_2")
    deafen(server)
    orphan(client, "last_ack")
    tcp(server, "fin_wait_2")


def tcp_closing(address, port):
    """a connection that both ends close at the same time, and one end receives nothing"""
    client, server = pair_of(address, port)
    deafen(server)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    await_state(client, "closing")
    tcp(client, "closing")
    tcp(server, "fin_wait_1")


def datagrams(transport, protocol, address, port, connect):
    sock = socket.socket(family_of(address), socket.SOCK_DGRAM, protocol)
    (sock.connect if connect else sock.bind)((address, port))
    hold(sock, transport, "established" if connect else "unconnected", (address, port) if connect else None)
    return sock


def udp(address, port):
    """an unconnected UDP socket"""
    datagrams("udp", 0, address, port, connect=False)


def udp_connect(address, port):
    """a connected UDP socket"""
    datagrams("udp", 0, address, port, connect=True)


def udp_queue(address, port):
    """an unconnected UDP socket with two unread datagrams"""
    sock = datagrams("udp", 0, address, port, connect=False)
    for _ in range(2):
        sock.sendto(b"x" * 100, sock.getsockname())


def udplite(address, port):
    """an unconnected UDP-Lite socket"""
    datagrams("udplite", UDPLITE, address, port, connect=False)


def udplite_connect(address, port):
    """a connected UDP-Lite socket"""
    datagrams("udplite", UDPLITE, address, port, connect=True)


def raw(address, protocol):
    """a raw socket; the port is the IP protocol (needs CAP_NET_RAW)"""
    sock = socket.socket(family_of(address), socket.SOCK_RAW, protocol)
    sock.bind((address, 0))
    hold(sock, "raw", "unconnected")


def raw_connect(address, protocol):
    """a connected raw socket; the port is the IP protocol (needs CAP_NET_RAW)"""
    sock = socket.socket(family_of(address), socket.SOCK_RAW, protocol)
    sock.connect((address, 0))
    hold(sock, "raw", "established", (address, 0))


KINDS = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        tcp_listen_forked,
        tcp_listen,
        tcp_listen_v6only,
        tcp_listen_reuseport,
        tcp_connect,
        tcp_self,
        tcp_pair,
        tcp_queues,
        tcp_backlog,
        tcp_syn_sent,
        tcp_syn_received,
        tcp_time_wait,
        tcp_fin_wait_1,
        tcp_fin_wait_2,
        tcp_close_wait,
        tcp_last_ack,
        tcp_closing,
        udp,
        udp_connect,
        udp_queue,
        udplite,
        udplite_connect,
        raw,
        raw_connect,
    )
}


def main():
    described = "\n".join(f"  {name:21} {kind.__doc__}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(usage=__doc__ + described)
    parser.add_argument("--comm")
    parser.add_argument("--uid", type=int)
    parser.add_argument("kinds", nargs="*")
    arguments = parser.parse_args()
    if arguments.comm is not None:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(arguments.comm.encode("latin-1").decode("unicode_escape").encode("latin-1"))
    if arguments.uid is not None:
        os.setgroups([])
        os.setgid(arguments.uid)
        os.setuid(arguments.uid)
    for text in arguments.kinds:
        name, _, place = text.partition("=")
        place, *source = place.split("@")
        address, _, port = place.rpartition(":")
        if name not in KINDS:
            parser.error(f'Cannot open "{text}": no such kind')
        KINDS[name](address.strip("[]"), int(port), *source)
    print(json.dumps({"pid": os.getpid(), "opened": opened}), flush=True)
    serve()
    for pid in forked:
        os.waitpid(pid, 0)


main()
