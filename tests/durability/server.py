"""The real server under strace, callers of its API, and a subscriber."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

PATIENCE = 60


class Server:
    """`taskwatchd` with its data in a folder; with `strace`, under it with these arguments."""

    binary = None

    def __init__(self, data, strace=()):
        trace = ["strace", "-f", *strace] if strace else []
        command = [*trace, self.binary, "--listen", "127.0.0.1:0", "--data", data]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said = ""
        self.addr = None
        for line in self.process.stderr:
            self.said += line
            if "listening on http://" in line:
                self.addr = line.strip().rpartition("/")[2]
                break

    def ended(self):
        """Waits for the end: how it ended, as a shell would say."""
        self.said += self.process.stderr.read()
        code = self.process.wait(PATIENCE)
        return 128 - code if code < 0 else code

    def stop(self):
        """A polite stop, which strace would not pass on."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]) if children else self.process.pid, signal.SIGTERM)
        return self.ended()


class Caller:
    """One connection to the API."""

    def __init__(self, addr):
        self.http = http.client.HTTPConnection(addr, timeout=PATIENCE)

    def ask(self, method, path, body=None, key=None):
        """Status, headers and body; `None` if there is no answer."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        try:
            self.http.request(method, path, body and json.dumps(body), headers)
            answer = self.http.getresponse()
            kept = {name: answer.headers[name] for name in ("task-cursor", "location", "etag")}
            return answer.status, kept, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None

    def create(self, title, key=None):
        return self.ask("POST", "/api/v1/tasks", {"repository": "foo", "title": title}, key)


class Subscriber:
    """A WebSocket, as far as a short-lived reader needs one."""

    def __init__(self, addr, since=None):
        host, port = addr.split(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.file = self.socket.makefile("rb")
        path = "/ws?repo=foo" + (f"&since={since}" if since else "")
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {addr}\r\nX-Version: 1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 101 " in self.file.readline()
        while self.file.readline().strip():
            pass
        self.cursor = since
        self.mode = next(frame for frame in self.frames() if frame["type"] == "subscribed")["data"]["mode"]

    def frames(self):
        """What comes, up to the end of the connection."""
        while (text := self.text()) is not None:
            frame = json.loads(text)
            frame["text"] = text
            self.cursor = frame.get("cursor", self.cursor)
            yield frame

    def events(self, until=None):
        """The events up to the end, or up to one with this title, as they came."""
        events = []
        for frame in self.frames():
            if frame["type"].startswith("task."):
                events.append(frame["text"])
                if until and frame["data"]["task"]["title"] == until:
                    break
        return events

    def text(self):
        try:
            while len(head := self.file.read(2)) == 2:
                length = head[1]
                if length > 125:
                    length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
                payload = self.file.read(length)
                if len(payload) == length and head[0] & 15 == 1:
                    return payload.decode()
        except ConnectionError:
            pass
        return None


def query(data, sql):
    """Rows of the database itself."""
    database = sqlite3.connect(f"{data}/taskwatch.db")
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def log(data):
    return [envelope for (envelope,) in query(data, "SELECT envelope FROM event ORDER BY seq")]


def title(envelope):
    return json.loads(envelope)["data"]["task"]["title"]
