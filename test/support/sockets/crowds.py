"""What one user does against others. Prints a line when all is there, and ends with its standard input.

usage: crowds.py UID KIND COUNT

operators   each second a process of another name that connects to COUNT networks of as many operators, for ten seconds
questions   a process that connects to COUNT networks, and a packet is never sent
namespaces  COUNT processes in network namespaces of their own, whose counters move all the time
names       COUNT listening processes that change their names each second
witness     a process that listens on one more port for each line of standard input, and answers with a line
"""

import ctypes
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def fork(run, *arguments):
    if os.fork() == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # At the end, its folder goes first.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            run(*arguments)
        finally:
            os._exit(1)


def connect(addresses):
    held = []
    for address in addresses:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.connect((address, 53))
        held.append(one)
    return held


def listen():
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    one.listen()
    return one


def operators(count):
    return [f"{32 + i // 10}.{i % 10}.0.1" for i in range(count)]


def networks(count):
    return [f"{150 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.1" for i in range(count)]


def renamed(script, *arguments):
    """Runs this file under another name."""
    link = os.path.join(folder, script)
    os.symlink(os.path.realpath(sys.argv[0]), link)
    os.execv(sys.executable, [sys.executable, link, *map(str, arguments)])


def namespace(ready):
    held = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    held[0].bind(("127.0.0.1", 0))
    held[1].bind(("127.0.0.1", 0))
    held[1].listen()
    os.write(ready, b"!")
    while True:
        held[0].sendto(b"x", held[0].getsockname())
        held[0].recv(9)
        time.sleep(1)


def make_namespace(uid, ready):
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "Cannot make a network namespace")
    os.system("ip link set lo up")
    os.setgid(uid)
    os.setuid(uid)
    # The kernel forgets it when the user changes.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    namespace(ready)


def callers(count):
    for number in range(10_000):
        fork(renamed, f"caller-{number}.py", "call", count)
        time.sleep(1)


def change_names(count, ready):
    for number in range(count):
        one = listen()
        os.set_inheritable(one.fileno(), True)
        fork(renamed, f"name-{number}.py", "rename", number, 0)
    os.write(ready, b"!" * count)


def main():
    global folder
    uid, kind, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, count + 1000))
    folder = tempfile.mkdtemp(prefix="peerscope-crowd-")
    os.chown(folder, uid, uid)
    reading, ready = os.pipe()
    if kind == "namespaces":
        for _ in range(count):
            fork(make_namespace, uid, ready)
    os.setgid(uid)
    os.setuid(uid)
    os.environ["FOLDER"] = folder
    held = []
    if kind == "operators":
        threading.Thread(target=callers, args=(count,), daemon=True).start()
    elif kind == "questions":
        held = connect(networks(count))
    elif kind == "names":
        change_names(count, ready)
    if kind in ("namespaces", "names"):
        left = count
        while left > 0:
            left -= len(os.read(reading, 4096))
    print(flush=True)
    for _ in sys.stdin:
        held.append(listen())
        print(flush=True)
    shutil.rmtree(folder, ignore_errors=True)


if sys.argv[1] == "call":
    held = connect(operators(int(sys.argv[2])))
    time.sleep(10)
elif sys.argv[1] == "rename":
    folder = os.environ["FOLDER"]
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    time.sleep(1)
    former = sys.argv[0]
    sys.argv[0] = os.path.realpath(former)
    os.unlink(former)
    renamed(f"name-{sys.argv[2]}-{sys.argv[3]}.py", "rename", sys.argv[2], int(sys.argv[3]) + 1)
else:
    main()
