"""Give this process's standard input and output to whoever listens at a Unix socket, and end: `hand_over.py PATH`."""

import signal
import socket
import sys

signal.alarm(60)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    socket.send_fds(sock, [b"x"], [0, 1])
