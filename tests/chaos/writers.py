"""Those who change tasks. What each asked, and what it was told, is recorded.

Each text that a request writes holds the request's own name, so that its event is found in the log.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recording import Recording

REPOSITORIES = ["acme/api", "acme/web", "acme/deep/er", "tools", "quiet", "other/api"]
WEIGHTS = [6, 4, 2, 6, 1, 3]
TASKS = "/api/v1/tasks"
ANSWER_SECONDS = 2.5
# Tasks of one writer, so that a snapshot does not grow for ever.
TASKS_AT_ONCE = 80
GONE = f"{TASKS}/00000000-0000-7000-8000-000000000000"


@dataclass
class Request:
    op: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    key: str | None = None
    if_match: str | None = None


@dataclass
class Answer:
    status: int
    cursor: str | None
    body: dict[str, Any]


@dataclass
class Pace:
    """How long a writer thinks, and how large some of its texts are."""

    think: float = 0.05
    large_part: float = 0.1
    large_bytes: int = 16_000
    keyed_part: float = 0.5


class Writer:
    """One that makes a change after another, each task being its own."""

    def __init__(self, name: str, port: int, seed: str, folder: Path, pace: Pace) -> None:
        self.name = name
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.pace = pace
        self.problem: Exception | None = None
        self.bytes = 0
        self.is_asking = False
        self._port = port
        self._choices = random.Random(f"{seed}/{name}")
        self._recording = Recording(folder / f"{name}.jsonl")
        self._connection: http.client.HTTPConnection | None = None
        self._numbers = 0
        self._tasks: list[str] = []
        self._kept: list[tuple[Request, Answer]] = []
        self._end = threading.Event()

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self.step()
                self._end.wait(self._choices.uniform(0, 2 * self.pace.think))
        except Exception as problem:
            # Told by whoever waits for the end.
            self.problem = problem

    def finish(self) -> None:
        self._end.set()

    def step(self) -> None:
        choice = self._choices.random()
        if len(self._tasks) > TASKS_AT_ONCE:
            choice = 1.0
        if choice < 0.06:
            self._refused_on_purpose()
        elif choice < 0.09 and self._kept:
            self._again()
        elif choice < 0.5 or not self._tasks:
            self.create(self._choices.choices(REPOSITORIES, WEIGHTS)[0])
        elif choice < 0.9:
            self._patch()
        else:
            self._delete()

    def _new_op(self) -> str:
        self._numbers += 1
        return f"{self.name}-{self._numbers}"

    def _keyed(self, op: str) -> str | None:
        return f"key-{op}" if self._choices.random() < self.pace.keyed_part else None

    def create(self, repository: str) -> Answer | None:
        op = self._new_op()
        body: dict[str, Any] = {"repository": repository, "title": op}
        if self._choices.random() < self.pace.large_part:
            body["description"] = "x" * self._choices.randrange(self.pace.large_bytes)
        if self._choices.random() < 0.3:
            body |= {"tags": ["a", "ü"], "assignee": "ana", "priority": "high"}
        answer = self.ask(Request(op, "POST", TASKS, body, self._keyed(op)))
        if answer and answer.status == 201:
            self._tasks.append(answer.body["id"])
        return answer

    def _patch(self) -> None:
        op = self._new_op()
        task = self._choices.choice(self._tasks)
        body: dict[str, Any] = {"title": op}
        if self._choices.random() < 0.5:
            body["status"] = self._choices.choice(["pending", "in_progress", "completed"])
        self.ask(Request(op, "PATCH", f"{TASKS}/{task}", body, self._keyed(op)))

    def _delete(self) -> None:
        # A task is deleted by one request only, answered or not.
        task = self._tasks.pop(self._choices.randrange(len(self._tasks)))
        op = self._new_op()
        self.ask(Request(op, "DELETE", f"{TASKS}/{task}", None, self._keyed(op)))

    def _refused_on_purpose(self) -> None:
        """Must be answered 4xx, and must leave nothing in the log."""
        op = self._new_op()
        kind = self._choices.randrange(4)
        if kind == 0:
            self.ask(Request(op, "POST", TASKS, {"repository": "tools", "title": op, "no": 1}))
        elif kind == 1:
            self.ask(Request(op, "PATCH", GONE, {"title": op}, self._keyed(op)))
        elif kind == 2 and self._tasks:
            path = f"{TASKS}/{self._choices.choice(self._tasks)}"
            self.ask(Request(op, "PATCH", path, {"title": op}, if_match='"v9999"'))
        elif self._kept:
            first, _ = self._choices.choice(self._kept)
            body = {"repository": "tools", "title": op}
            self.ask(Request(op, "POST", TASKS, body, first.key))

    def _again(self) -> None:
        """The same request under the same key: the same answer, and nothing else."""
        request, _ = self._choices.choice(self._kept)
        self.ask(request)

    def ask(self, request: Request) -> Answer | None:
        """Sends until there is an answer. What may have been taken goes again only with a key."""
        attempt = 0
        while not self._end.is_set() or attempt == 0:
            attempt += 1
            try:
                connection = self._connected()
            except OSError:
                # Certainly not made.
                self._end.wait(0.02)
                continue
            try:
                self.is_asking = True
                answer = self._exchange(connection, request, attempt)
            except (OSError, http.client.HTTPException, ValueError) as problem:
                self._drop_connection()
                self._recording.add("lost", op=request.op, attempt=attempt, why=repr(problem))
                if request.key is None:
                    return None
                self._end.wait(0.02)
                continue
            finally:
                self.is_asking = False
            if answer.status == 503:
                # Says that it was not made: it may go again.
                self._end.wait(self._choices.uniform(0.05, 0.2))
                continue
            if 200 <= answer.status < 300:
                self.bytes += len(json.dumps(answer.body))
                if request.key:
                    self._kept = [*self._kept[-20:], (request, answer)]
            return answer
        return None

    def _exchange(
        self, connection: http.client.HTTPConnection, request: Request, attempt: int
    ) -> Answer:
        headers = {}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if request.key:
            headers["Idempotency-Key"] = request.key
        if request.if_match:
            headers["If-Match"] = request.if_match
        body = None if request.body is None else json.dumps(request.body)
        said = {"op": request.op, "attempt": attempt}
        # Recorded before the first byte, so that no effect comes before its cause.
        self._recording.add(
            "sent",
            **said,
            method=request.method,
            path=request.path,
            body=request.body,
            key=request.key,
        )
        connection.request(request.method, request.path, body, headers)
        response = connection.getresponse()
        text = response.read()
        answer = Answer(
            response.status, response.getheader("Task-Cursor"), json.loads(text or "{}")
        )
        self._recording.add(
            "answered", **said, status=answer.status, cursor=answer.cursor, body=answer.body
        )
        if response.will_close:
            self._drop_connection()
        return answer

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
            connection.connect()
            self._connection = connection
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


@dataclass
class Writers:
    """All of them."""

    port: int
    seed: str
    folder: Path
    pace: Pace = field(default_factory=Pace)
    running: list[Writer] = field(default_factory=list)

    def start(self, count: int) -> None:
        for _ in range(count):
            name = f"w{len(self.running) + 1}"
            self.running.append(Writer(name, self.port, self.seed, self.folder, self.pace))
            self.running[-1].thread.start()

    def amid_a_request(self, choices: random.Random, seconds: float) -> None:
        """Waits for a moment at which somebody waits for an answer, at any part of a request."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            # About the time that a request takes.
            time.sleep(choices.uniform(0, 0.004))
            if any(writer.is_asking for writer in self.running):
                return

    def await_bytes(self, count: int, seconds: float) -> None:
        """Until so many bytes of tasks were written, but not for ever."""
        deadline = time.monotonic() + seconds
        enough = sum(writer.bytes for writer in self.running) + count
        while time.monotonic() < deadline and sum(writer.bytes for writer in self.running) < enough:
            time.sleep(0.05)

    def finish(self) -> None:
        for writer in self.running:
            writer.finish()
        for writer in self.running:
            writer.thread.join(3 * ANSWER_SECONDS)
            if writer.problem or writer.thread.is_alive():
                raise RuntimeError(f"writer {writer.name} failed: {writer.problem!r}")

    def mark(self, deadline: float) -> dict[str, str]:
        """One last task in each repository, and its cursor: whoever has it has everything."""
        last = Writer("last", self.port, self.seed, self.folder, Pace())
        # A server that is gone would be asked for ever.
        patience = threading.Timer(deadline - time.monotonic(), last.finish)
        patience.daemon = True
        patience.start()
        cursors: dict[str, str] = {}
        for repository in REPOSITORIES:
            answer = None
            while answer is None or answer.status != 201:
                if time.monotonic() > deadline:
                    raise TimeoutError("the last changes are not taken")
                answer = last.create(repository)
            assert answer.cursor is not None
            cursors[repository] = answer.cursor
        patience.cancel()
        return cursors
