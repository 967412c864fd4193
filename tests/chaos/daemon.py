"""The real `taskwatchd`: started, killed, stopped, and made to meet a failing disk."""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from recording import Recording

READY_SECONDS = 30.0
STOP_SECONDS = 45.0


def free_port(choices: random.Random) -> int:
    """A port that no outgoing connection takes while the server is down."""
    while True:
        port = choices.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class NotPermitted(Exception):
    """This machine does not let one process trace another."""


class Daemon:
    """One server with one data folder, over all its lives."""

    def __init__(self, binary: Path, data: Path, port: int, faults: Recording) -> None:
        self.data = data
        self.port = port
        self.log = data.with_suffix(".stderr")
        self.counters = Counters(port)
        # What it did that it must not do.
        self.problems: list[str] = []
        self._binary = binary
        self._faults = faults
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *flags: str, env: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            listen = f"127.0.0.1:{self.port}"
            self._process = subprocess.Popen(
                [self._binary, "--listen", listen, "--data", self.data, *flags],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
            )
        self._faults.add("started", pid=self._process.pid)
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not start; see {self.log}")
            time.sleep(0.01)
        self._faults.add("ready")

    def _answers(self) -> bool:
        try:
            return get(self.port, "/healthz")[0] == 200
        except OSError:
            return False

    def _must_live(self) -> None:
        """Before each fault: an end of its own must not pass for the one that is to come."""
        code = self.process.poll()
        if code is not None:
            self.problems.append(f"the server ended by itself, with {code}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was started"
        return self._process

    def kill(self) -> None:
        self._must_live()
        # The time is taken first: what is answered by then cannot have been cut off.
        self._faults.add("kill")
        self.process.kill()
        self.process.wait()
        self.counters.end_of_life()

    def pause(self, seconds: float) -> None:
        self._must_live()
        self._faults.add("pause", seconds=seconds)
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)
        self._faults.add("continue")

    def stop(self) -> int:
        """As an operator does."""
        self._must_live()
        self.counters.poll()
        self._faults.add("stop")
        self.process.terminate()
        code = self.process.wait(STOP_SECONDS)
        self._faults.add("stopped", code=code)
        self.counters.end_of_life()
        return code

    def disk_full(self, seconds: float) -> None:
        """No write to a file succeeds for a while."""
        self._must_live()
        with Injection(self.process.pid, "pwrite64:error=ENOSPC"):
            self._faults.add("disk_full", seconds=seconds)
            time.sleep(seconds)
            # Before it lets go: until here every write has failed.
            self._faults.add("disk_free")

    def failing_sync(self, seconds: float) -> int | None:
        """Every fsync fails; the server must end. Returns how it did, or nothing if it did not."""
        self._must_live()
        self.counters.poll()
        with Injection(self.process.pid, "fdatasync,fsync:error=EIO"):
            self._faults.add("failing_sync")
            try:
                code = self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self._faults.add("ended", code=code)
        self.counters.end_of_life()
        return code

    def discard(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Injection:
    """Makes system calls of a process fail, as long as it lasts."""

    def __init__(self, pid: int, fault: str) -> None:
        calls = fault.split(":")[0]
        self._command = ["strace", "-f", "-p", str(pid), "-e", f"trace={calls}"]
        self._command += ["-e", f"inject={fault}", "-e", "signal=none"]

    def __enter__(self) -> None:
        self._strace = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        if "attached" not in said:
            self._strace.kill()
            self._strace.wait()
            raise NotPermitted(said.strip())
        # Nobody reads the trace itself, and a full pipe would stop the server.
        self._reader = threading.Thread(target=self._strace.stderr.read, daemon=True)
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        # On this signal it lets go of the process first.
        self._strace.send_signal(signal.SIGINT)
        self._strace.wait(10)
        self._reader.join(10)


def try_tracing() -> None:
    """Fails at once where the faults of the disk would fail in the middle of a run."""
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        with Injection(child.pid, "fsync:error=EIO"):
            pass
    finally:
        child.kill()
        child.wait()


SAMPLE = re.compile(r"^(taskwatch_\w+(?:\{[^}]*\})?) (\d+)", re.MULTILINE)


class Counters:
    """`GET /metrics`, summed over the lives of the process.

    What was counted after the last look at a life is lost.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._before: dict[str, int] = {}
        self._now: dict[str, int] = {}

    def poll(self) -> None:
        with self._lock:
            try:
                status, text = get(self._port, "/metrics")
            except OSError:
                return
            if status == 200:
                self._now = {name: int(value) for name, value in SAMPLE.findall(text)}

    def end_of_life(self) -> None:
        with self._lock:
            self._before = self._sum()
            self._now = {}

    def _sum(self) -> dict[str, int]:
        names = self._before.keys() | self._now.keys()
        return {name: self._before.get(name, 0) + self._now.get(name, 0) for name in names}

    def now(self, name: str) -> int:
        """Of this life alone, which is what a gauge means."""
        with self._lock:
            return self._now.get(name, 0)

    def names(self) -> set[str]:
        with self._lock:
            return set(self._sum())

    def total(self, name: str) -> int:
        with self._lock:
            return self._sum().get(name, 0)


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except http.client.HTTPException as problem:
        raise OSError(str(problem)) from problem
    finally:
        connection.close()
