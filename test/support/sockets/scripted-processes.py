#!/usr/bin/python3
"""Processes that open, close, replace, pass on and inherit sockets on command.

One JSON command a line on standard input, {"by": PROCESS, "do": COMMAND, ...}; one JSON answer a line on standard output.
The first process is called "main"; `fork` and `spawn` make others, and `by` says which of them acts, `in` which of its
threads. What is opened goes by a name of the caller. All of them end when standard input does. Commands:
"""

import ctypes
import json
import os
import queue
import resource
import signal
import socket
import struct
import sys
import threading

CLONE_FILES = 0x400
CLONE_NEWNET = 0x40000000
SYS_EXIT = {"x86_64": 60, "aarch64": 93}
SYS_CLONE3 = 435
DOOR = f"\0processes-{os.getpid()}-"

libc = ctypes.PyDLL(None, use_errno=True)
held = {}  # name -> socket or file
sockets = {}  # name of a process that this one forked -> where it takes its commands
threads = {}  # name -> (commands, answers)


def checked(outcome):
    if outcome < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return outcome


def door(name):
    """Where a process receives descriptors: a datagram socket that lives as long as it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(DOOR + name)
    return sock


def listen(names, address="127.0.0.1", port=0, backlog=4096):
    """listen: a TCP listener for each name; gives the ports"""
    for name in names:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.bind((address, port))
        sock.listen(backlog)
        held[name] = sock
    return [held[name].getsockname()[1] for name in names]


def connect(names, port, address="127.0.0.1"):
    """connect: a TCP client for each name"""
    for name in names:
        held[name] = socket.create_connection((address, port))


def accept(names, listener):
    """accept: a waiting connection for each name"""
    for name in names:
        held[name] = held[listener].accept()[0]


def udp(names, address="127.0.0.1", port=0):
    """udp: a bound UDP socket for each name; gives the ports"""
    for name in names:
        held[name] = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        held[name].bind((address, port))
    return [held[name].getsockname()[1] for name in names]


def udp_socket(names):
    """udp_socket: UDP sockets that have no port yet, and are in no table"""
    for name in names:
        held[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def udp_connect(names, port, address="127.0.0.1"):
    """udp_connect: gives UDP sockets a peer"""
    for name in names:
        held[name].connect((address, port))


def udp_disconnect(names):
    """udp_disconnect: takes the peer of UDP sockets, and so the port that the kernel chose"""
    for name in names:
        unspecified = struct.pack("@H14x", socket.AF_UNSPEC)
        checked(libc.connect(held[name].fileno(), unspecified, len(unspecified)))


def tcp(names):
    """tcp: TCP sockets that do nothing yet, and are in no table"""
    for name in names:
        held[name] = socket.socket()


def start(names, port=0):
    """start: makes listeners of such sockets"""
    for name in names:
        held[name].bind(("127.0.0.1", port))
        held[name].listen()


def unix(names):
    """unix: Unix sockets"""
    for name in names:
        held[name] = socket.socket(socket.AF_UNIX)


def files(names):
    """files: descriptors that are no sockets"""
    for name in names:
        held[name] = open("/dev/null", "rb")


def close(names):
    """close: closes the descriptors here"""
    for name in names:
        held.pop(name).close()


def send(names, to):
    """send: passes descriptors on to another process; they are in flight until it takes them, and stay open here"""
    for name in names:
        passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", held[name].fileno()))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendmsg([name.encode()], [passed], 0, DOOR + to)


def take(count):
    """take: receives a number of descriptors under the names they were sent by"""
    for _ in range(count):
        name, fds, _, _ = socket.recv_fds(held["door"], 256, 1)
        held[name.decode()] = socket.socket(fileno=fds[0])


def fork(name, pid=0):
    """fork: a process that inherits all that is open here; gives its pid. `pid` makes it the one with that number"""
    mine, its = socket.socketpair()
    child = clone_as(pid) if pid else os.fork()
    if child == 0:
        mine.close()
        sockets.clear()
        threads.clear()
        held["door"].close()
        held["door"] = door(name)
        serve(its)
    its.close()
    sockets[name] = mine
    return child


def clone_as(pid):
    """clone3() with set_tid (Linux 5.5): the way to be given a pid of one's choice."""
    tid = ctypes.c_int(pid)
    arguments = struct.pack("@11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(tid), 1, 0)
    return checked(libc.syscall(SYS_CLONE3, ctypes.c_char_p(arguments), ctypes.c_size_t(len(arguments))))


def end(name):
    """end: ends a process that was forked here and waits until its pid is free"""
    sock = sockets.pop(name)
    pid = ask(sock, {"do": "pid"})["gave"]
    sock.close()
    os.waitpid(pid, 0)


def pid():
    """pid: gives the number of the process"""
    return os.getpid()


def move(to):
    """move: goes into the network namespace of another process; what is open stays in the old one"""
    with open(f"/proc/{to}/ns/net", "rb") as namespace:
        checked(libc.setns(namespace.fileno(), CLONE_NEWNET))


def thread(name):
    """thread: a thread with a descriptor table of its own; commands with its name as `in` are its"""
    commands, answers = queue.Queue(), queue.Queue()

    def work():
        libc.unshare(CLONE_FILES)
        while True:
            answers.put(act(commands.get()))

    threads[name] = commands, answers
    threading.Thread(target=work, daemon=True).start()


def leave():
    """leave: ends the first thread of the process; another thread takes its commands"""
    raise SystemExit


COMMANDS = {
    command.__name__: command
    for command in [listen, connect, accept, udp, udp_socket, udp_connect, udp_disconnect, tcp, start, unix, files, close, send]
    + [take, fork, end, pid, move, thread, leave]
}
__doc__ += "".join(f"  {command.__doc__}\n" for command in COMMANDS.values())


def act(command):
    arguments = {key: value for key, value in command.items() if key not in ("by", "in", "do")}
    try:
        return {"gave": COMMANDS[command["do"]](**arguments)}
    except OSError as error:
        return {"error": f"Cannot {command['do']}: {error}"}


def ask(sock, command):
    sock.sendall(json.dumps(command).encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        answer += sock.recv(65536)
        if answer == b"":
            return {"error": "Cannot ask a process that is gone"}
    return json.loads(answer)


def answer(command):
    if "in" in command:
        commands, answers = threads[command["in"]]
        commands.put(command)
        return answers.get()
    return act(command)


def serve(sock):
    """Takes commands until the other end is closed; never returns."""
    reader = sock.makefile("rb")
    try:
        for line in reader:
            sock.sendall(json.dumps(answer(json.loads(line))).encode() + b"\n")
    except SystemExit:
        libc_without_lock = ctypes.CDLL(None)

        def go_on():
            # It has left when it is a zombie.
            pid = os.getpid()
            while open(f"/proc/{pid}/task/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z":
                os.sched_yield()
            sock.sendall(json.dumps({"gave": None}).encode() + b"\n")
            for line in reader:
                sock.sendall(json.dumps(answer(json.loads(line))).encode() + b"\n")
            os._exit(0)

        threading.Thread(target=go_on).start()
        libc_without_lock.syscall(SYS_EXIT[os.uname().machine], 0)
    os._exit(0)


def main():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held["door"] = door("main")
    print(json.dumps({"gave": os.getpid()}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        by = command.get("by", "main")
        print(json.dumps(answer(command) if by == "main" else ask(sockets[by], command)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
