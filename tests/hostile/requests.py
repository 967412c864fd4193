"""Requests that break HTTP are refused, and the connection does not go on behind them.

usage: requests.py PATH-OF-TASKWATCHD FOLDER
"""

import re
import socket
import sys
from pathlib import Path

from violations import KIB, Server

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
GET = b"GET /api/v1/tasks HTTP/1.1\r\n" + HOST
POST = b"POST /api/v1/tasks HTTP/1.1\r\n" + HOST + JSON
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b'{"repository":"a","title":"b"}'
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
# Follows each request: an answer to it says that the connection went on.
SMUGGLED = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"

# Name, what the answer may be, the request.
REQUESTS = [
    ("65 headers", {431}, GET + b"".join(b"X%d: x\r\n" % n for n in range(64)) + b"\r\n"),
    ("17 KiB of headers", {431}, GET + b"X: " + b"x" * 17 * KIB + b"\r\n\r\n"),
    ("408 KiB of headers", {431}, GET + b"X: " + b"x" * 408 * KIB + b"\r\n\r\n"),
    ("a path over 8 KiB", {414}, b"GET /" + b"x" * 8 * KIB + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("a query over 8 KiB", {414}, b"GET /?" + b"x" * 8 * KIB + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("a path over a head's 16 KiB", {431}, b"GET /" + b"x" * 70 * KIB + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("no token as a method", {400}, b"G<T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("an unknown method", {405}, b"BREW /api/v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("another version", {400}, b"GET / HTTP/3.7\r\n" + HOST + b"\r\n"),
    ("NUL in the path", {400}, b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("NUL in a header", {400}, GET + b"X: a\0b\r\n\r\n"),
    ("a header in two lines", {400}, GET + b"X: a\r\n b\r\n\r\n"),
    ("a blank in front of a colon", {400}, b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    ("no Host", {403}, b"GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", {403}, GET + HOST + b"\r\n"),
    ("TLS to a server without", {400}, bytes([22, 3, 1, 2, 0, 1, 0, 1]) * 64),
    ("two lengths", {400}, POST + b"Content-Length: 30\r\nContent-Length: 31\r\n\r\n" + BODY),
    ("a length with a sign", {400}, POST + b"Content-Length: +30\r\n\r\n" + BODY),
    ("a length of 2^64", {400}, POST + b"Content-Length: 18446744073709551616\r\n\r\n"),
    ("a length of 2^63", {413}, POST + b"Content-Length: 9223372036854775808\r\n\r\n"),
    ("another coding", {400}, POST + b"Transfer-Encoding: gzip\r\n\r\n" + BODY),
    ("chunked, then another coding", {400}, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNK),
    ("a chunk without a length", {400}, POST + CHUNKED + b"\r\nzz\r\n" + BODY),
    # RFC 9112 §6.1: the coding counts, and nothing may follow. hyper leaves no trace of the length.
    ("chunked, and a length", {201, 400}, POST + CHUNKED + b"Content-Length: 4\r\n\r\n" + CHUNK),
    ("a length, and chunked", {201, 400}, POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n" + CHUNK),
    ("a body over 256 KiB", {413}, POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000),
    ("chunks over 256 KiB", {413}, POST + CHUNKED + b"\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 5),
]
# These are well-formed, so the connection may go on.
WELL_FORMED = {
    "a path over 8 KiB", "a query over 8 KiB", "a body over 256 KiB", "an unknown method", "no Host", "two Hosts",
}


def ask(address, request):
    """The statuses that came back until the server closed the connection."""
    host, port = address.split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=15) as stream:
        try:
            stream.sendall(request)
        except OSError:
            pass  # It was closed amid the request; the answer may be there.
        try:
            while data := stream.recv(64 * KIB):
                received += data
        except OSError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def main(program, folder):
    server = Server(program, Path(folder))
    failed = 0
    try:
        for name, statuses, request in REQUESTS:
            seen = ask(server.address, request + SMUGGLED)
            alone = len(seen) == 1 or name in WELL_FORMED
            kept = bool(seen) and seen[0] in statuses and alone
            failed += not kept
            print(f"{name:32} {' '.join(map(str, seen)) or '-'}{'' if kept else '   <== FAIL'}", flush=True)
        if server.process.poll() is not None or "panicked" in server.said():
            failed += 1
            print(f"FAIL  the server: {server.said()}")
    finally:
        server.process.terminate()
        server.process.wait()
    print(f"hostile: {len(REQUESTS)} requests, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
