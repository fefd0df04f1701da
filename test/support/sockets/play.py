"""Opens what its arguments say, prints a line, and holds it until its standard input ends: tcp:ADDRESS:PORT connects,
tcp:ADDRESS:PORT:SOURCE from an address, listen:PORT listens on TCP, udp:PORT on UDP."""
import socket
import sys

held = []
for argument in sys.argv[1:]:
    kind, *rest = argument.split(":")
    if kind == "tcp":
        held.append(socket.create_connection((rest[0], int(rest[1])), 5, (rest[2] if rest[2:] else "", 0)))
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "listen" else socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", int(rest[0])))
        if kind == "listen":
            sock.listen()
        held.append(sock)
print(flush=True)
sys.stdin.read()
