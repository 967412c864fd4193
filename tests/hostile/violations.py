"""What breaks the rules is answered with the documented close code, and harms nobody else.

usage: violations.py PATH-OF-TASKWATCHD FOLDER

Each attack writes everything it has before it reads anything, so that a reset would destroy the close frame
on its way. What comes back is read by the parser of the PyPI package `websockets`. Meanwhile a process of its
own writes steadily, and subscribes to `*` through the same package's client.
"""

import http.client
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.sync.client import connect
from websockets.uri import parse_uri

KIB, MIB = 1 << 10, 1 << 20
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
MASKED = 0x80

# So much may an attack add to the server's memory while it lasts, and all of them together in the end.
# The event cache, which the steady writer fills, is in the second.
PEAK_BOUND = 8 * MIB
END_BOUND = 16 * MIB
# Longer than an event may take from its acknowledgement to a subscriber, on a busy machine.
HELD_UP = 2.0
WRITES_PER_SECOND = 100
FLOOD = 1_000_000


def frame(opcode, payload=b"", first=FIN, claimed=None, masked=MASKED):
    """A frame; its mask is zero, which leaves the payload as it is."""
    length = len(payload) if claimed is None else claimed
    head = bytes([first | opcode])
    if length < 126:
        head += bytes([masked | length])
    elif length < 1 << 16:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    return head + (bytes(4) if masked else b"") + payload


def close(code, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def flood(start, repeated):
    """A million frames, in pieces."""
    piece = 10_000
    return [start, *[repeated * piece] * (FLOOD // piece)]


def pings_for_3_seconds():
    """Longer than the server waits for a peer that it has closed."""
    for _ in range(3_000):
        time.sleep(0.001)
        yield frame(PING)


# Name, documented codes, what is sent.
ATTACKS = [
    ("a frame of 1 MiB", {1009}, [frame(TEXT, b"x" * MIB)]),
    ("1 MiB in fragments", {1009},
     [frame(TEXT, first=0), *[frame(CONTINUATION, b"x" * 64 * KIB, first=0)] * 16]),
    ("512 KiB and 1 byte claimed", {1009}, [frame(TEXT, claimed=512 * KIB + 1)]),
    ("2^62 bytes claimed", {1009}, [frame(TEXT, claimed=1 << 62)]),
    ("2^63 - 1 bytes claimed", {1009}, [frame(TEXT, claimed=(1 << 63) - 1)]),
    ("2^63 bytes claimed", {1002, 1009}, [frame(TEXT, claimed=1 << 63)]),
    ("2^64 - 1 bytes claimed", {1002, 1009}, [frame(BINARY, claimed=(1 << 64) - 1)]),
    ("a million empty fragments", {4103}, flood(frame(TEXT, first=0), frame(CONTINUATION, first=0))),
    ("a million pings", {4103}, flood(b"", frame(PING))),
    ("a million pings of 125 bytes", {4103}, flood(b"", frame(PING, b"p" * 125))),
    ("a million pongs", {4103}, flood(b"", frame(PONG))),
    ("a million messages", {4103}, flood(b"", frame(TEXT, b'{"type":"pong"}'))),
    ("a million pings in a message", {4103}, flood(frame(TEXT, b"{", first=0), frame(PING))),
    ("pings for 3 seconds", {4103}, pings_for_3_seconds()),
    ("an unmasked frame", {1002}, [frame(TEXT, b"{}", masked=0)]),
    *[(f"RSV{n}", {1002}, [frame(TEXT, b"{}", first=FIN | 0x80 >> n)]) for n in (1, 2, 3)],
    *[(f"opcode {n}", {1002}, [frame(n)]) for n in (*range(3, 8), *range(11, 16))],
    ("a continuation of nothing", {1002}, [frame(CONTINUATION, b"x")]),
    ("a message in a message", {1002}, [frame(TEXT, b"{", first=0), frame(TEXT, b"}")]),
    ("a ping of 126 bytes", {1002}, [frame(PING, b"p" * 126)]),
    ("a ping in fragments", {1002}, [frame(PING, b"p", first=0)]),
    ("a close in fragments", {1002}, [frame(CLOSE, struct.pack("!H", 1000), first=0)]),
    ("text that is not UTF-8", {1007}, [frame(TEXT, b"\xff\xfe")]),
    ("a surrogate in UTF-8", {1007}, [frame(TEXT, b"\xed\xa0\x80")]),
    ("UTF-8 cut short", {1007}, [frame(TEXT, "ü".encode()[:1])]),
    ("bad UTF-8 in fragments", {1007}, [frame(TEXT, b"{", first=0), frame(CONTINUATION, b"\xc0\xaf")]),
    ("a binary message", {1003}, [frame(BINARY, b"{}")]),
    ("a close of 1 byte", {1002}, [frame(CLOSE, b"x")]),
    *[(f"a close with {code}", {1002}, [close(code)]) for code in (0, 999, 1004, 1005, 1006, 1015, 5000)],
    ("a close whose reason is not UTF-8", {1002, 1007}, [close(1000, b"\xff")]),
]

# The same, but the code comes when the time for a message is over: name, what is sent.
SLOW = [
    ("a message never finished", [frame(TEXT, b"{", first=0)]),
    ("a frame never finished", [frame(TEXT, b"{", claimed=100)]),
    ("512 KiB claimed, never sent", [frame(TEXT, claimed=512 * KIB)]),
    ("half a frame's head", [frame(TEXT, claimed=100)[:3]]),
]
UNFINISHED = (9, 14)


class Attacker:
    """A socket, and the parser of another maker."""

    def __init__(self, url):
        uri = parse_uri(url)
        self.protocol = ClientProtocol(uri, max_size=None)
        self.socket = socket.create_connection((uri.host, uri.port))
        self.socket.settimeout(20)
        request = self.protocol.connect()
        request.headers["X-Version"] = "1"
        self.protocol.send_request(request)
        self.socket.sendall(b"".join(self.protocol.data_to_send()))
        while not any(getattr(event, "opcode", None) == TEXT for event in self.protocol.events_received()):
            if self.protocol.handshake_exc:
                raise self.protocol.handshake_exc
            self.protocol.receive_data(self.socket.recv(64 * KIB))

    def attack(self, pieces):
        """Sends everything, then reads to the end: the code of the close frame, and how the stream ended."""
        end = "closed"
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except OSError as error:
            end = f"refused more: {error.strerror}"
        try:
            while data := self.socket.recv(64 * KIB):
                self.protocol.receive_data(data)
                if self.protocol.close_rcvd:
                    break
        except TimeoutError:
            end = "nothing came"
        except OSError as error:
            end = error.strerror
        self.socket.close()
        received = self.protocol.close_rcvd
        return received and received.code, end


class Server:
    """taskwatchd, as the system sees it."""

    def __init__(self, program, folder):
        self.log = folder / "server.log"
        with open(self.log, "w", encoding="utf-8") as log:
            listen = [program, "--listen", "127.0.0.1:0", "--data", folder / "data"]
            self.process = subprocess.Popen(listen, stderr=log)
        deadline = time.monotonic() + 30
        while not (found := re.search(r"listening on http://(\S+)", self.said())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server does not start: {self.said()}")
            time.sleep(0.05)
        self.address = found[1]

    def said(self):
        return self.log.read_text(encoding="utf-8")

    def memory(self, line):
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(rf"{line}:\s+(\d+) kB", status)[1]) * KIB

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="utf-8")


def witness(address):
    with connect(f"ws://{address}/ws?repo=*", additional_headers={"X-Version": "1"}) as subscribed:
        watch(address, subscribed)


def watch(address, subscribed):
    """Writes steadily and reads along, until its input ends; then prints what it saw."""
    acknowledged, arrived = {}, {}
    stopped = threading.Event()
    while json.loads(subscribed.recv())["type"] != "subscribed":
        pass
    print("ready", flush=True)

    def write():
        api = http.client.HTTPConnection(address)
        number = 0
        while not stopped.wait(1 / WRITES_PER_SECOND):
            number += 1
            task = json.dumps({"repository": f"hostile/{number % 10}", "title": f"task {number}"})
            api.request("POST", "/api/v1/tasks", task, {"Content-Type": "application/json"})
            answer = api.getresponse()
            answer.read()
            if answer.status != 201:
                raise RuntimeError(f"a change was answered {answer.status}")
            acknowledged[answer.headers["Task-Cursor"]] = time.monotonic()

    def stop():
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=stop, daemon=True).start()
    writer = threading.Thread(target=write)
    writer.start()
    order = []
    while writer.is_alive() or len(order) < len(acknowledged):
        try:
            event = json.loads(subscribed.recv(timeout=0.1 if writer.is_alive() else 10))
        except TimeoutError:
            if writer.is_alive():
                continue
            break
        if event["type"] == "task.created":
            order.append(event["cursor"])
            arrived[event["cursor"]] = time.monotonic()
        elif event["type"] == "ping":
            subscribed.send('{"type":"pong"}')
    delays = [arrived[cursor] - then for cursor, then in acknowledged.items() if cursor in arrived]
    complete = order == list(acknowledged)
    print(json.dumps({"events": len(order), "complete": complete, "longest": max(delays)}))


def main(program, folder):
    folder = Path(folder)
    server = Server(program, folder)
    url = f"ws://{server.address}/ws"
    failed = []
    run = [sys.executable, __file__, "--witness", server.address]
    watching = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        watching.stdout.readline()
        # The first connections and the first events need memory for good.
        for _ in range(20):
            Attacker(url).attack([close(1000)])
        begin = server.memory("VmRSS")
        print(f"{'attack':36} {'code':>5}  {'seconds':>7}  {'peak +MiB':>9}  the attacker's stream")

        def judge(name, codes, code, seconds, growth, end):
            kept = code in codes and growth <= PEAK_BOUND
            print(f"{name:36} {code or '-':>5}  {seconds:7.2f}  {growth / MIB:9.1f}  {end}"
                  f"{'' if kept else '   <== FAIL'}", flush=True)
            if not kept:
                failed.append(f"{name}: close code {code}, not {sorted(codes)}, or too much memory")

        def timed(pieces):
            attacker = Attacker(url)
            started = time.monotonic()
            code, end = attacker.attack(pieces)
            return code, time.monotonic() - started, end

        for name, codes, pieces in ATTACKS:
            server.forget_peak()
            before = server.memory("VmRSS")
            code, seconds, end = timed(pieces)
            judge(name, codes, code, seconds, server.memory("VmHWM") - before, end)

        server.forget_peak()
        before = server.memory("VmRSS")
        with ThreadPoolExecutor(len(SLOW)) as pool:
            for (name, _), (code, seconds, end) in zip(SLOW, pool.map(timed, [pieces for _, pieces in SLOW])):
                judge(name, {4103}, code, seconds, server.memory("VmHWM") - before, end)
                if not UNFINISHED[0] <= seconds <= UNFINISHED[1]:
                    failed.append(f"{name}: closed after {seconds:.1f} s, not 10 s")

        growth = server.memory("VmRSS") - begin
        print(f"\nmemory: {begin / MIB:.1f} MiB before, {growth / MIB:+.1f} MiB in the end")
        if growth > END_BOUND:
            failed.append("memory has grown")
        seen = json.loads(watching.communicate()[0])
        print(f"meanwhile: {seen['events']} events, complete and in order: {seen['complete']}; the longest "
              f"took {seen['longest'] * 1000:.0f} ms from its acknowledgement to the subscriber")
        if not seen["complete"] or seen["events"] < 500 or seen["longest"] > HELD_UP:
            failed.append("another client's events were lost or held up")
        if server.process.poll() is not None or "panicked" in server.said():
            failed.append(f"the server: {server.said()}")
    finally:
        watching.kill()
        server.process.terminate()
        server.process.wait()
    for line in failed:
        print(f"FAIL  {line}")
    print(f"hostile: {len(ATTACKS) + len(SLOW)} attacks, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "--witness":
        witness(sys.argv[2])
    else:
        sys.exit(main(*sys.argv[1:]))
