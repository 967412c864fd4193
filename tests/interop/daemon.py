"""A `taskwatchd` of the test's own, those who write to it, and its log as the database has it."""

import http.client
import json
import pathlib
import random
import sqlite3
import subprocess
import threading
import time
import urllib.parse


def await_(what: str, holds, seconds: float = 60):
    """Waits until `holds()` is true, and returns what it said."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise SystemExit(f"no sign of: {what}")
        time.sleep(0.02)
    return found


PROCESSES: list[subprocess.Popen] = []


def spawn(command: list[str], **pipes) -> subprocess.Popen:
    process = subprocess.Popen(command, **pipes)
    PROCESSES.append(process)
    return process


def end_all() -> None:
    """Ends whatever was started and still runs."""
    for process in PROCESSES:
        process.kill()


class Daemon:
    """The server, on a port that stays its own over restarts once it has one. `under` is a command to start it with."""

    def __init__(self, binary: str, data: pathlib.Path, *flags: str, under: tuple[str, ...] = ()):
        self.binary, self.data, self.flags, self.under = binary, data, flags, under
        self.port = 0
        self.start()

    def start(self) -> None:
        listen = f"127.0.0.1:{self.port}"
        command = [*self.under, self.binary, "--listen", listen, "--data", str(self.data), *self.flags]
        self.process = spawn(command, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"{command}: {line}{self.process.stderr.read()}")
        self.url = line.removeprefix("listening on ").strip()
        self.port = urllib.parse.urlsplit(self.url).port
        # Nobody reads what else it says, and it must not wait for that.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ends it as an operator does."""
        self.process.terminate()
        if self.process.wait(60) != 0:
            raise SystemExit(f"the server ended with {self.process.returncode}")

    def log(self, prefix: str) -> list[str]:
        """The envelopes of all repositories that start so."""
        with sqlite3.connect(self.data / "taskwatch.db") as database:
            rows = database.execute("SELECT repository, envelope FROM event ORDER BY seq")
            return [envelope for repository, envelope in rows if repository.startswith(prefix)]


class Refused(Exception):
    """An answer that is not what the caller asked for."""


class Rest:
    """Changes tasks over REST. Each method returns how many changes were acknowledged, and the last cursor."""

    def __init__(self, port: int):
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body=None, **headers: str):
        text = None if body is None else json.dumps(body)
        if text is not None:
            headers.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, text, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {content.decode()}")
        return answer, content

    def create(self, task: dict):
        answer, content = self.ask("POST", "/api/v1/tasks", task)
        return json.loads(content)["id"], answer.headers["Task-Cursor"]

    def update(self, task_id: str, patch: dict):
        patched = {"Content-Type": "application/merge-patch+json"}
        answer, _ = self.ask("PATCH", f"/api/v1/tasks/{task_id}", patch, **patched)
        return answer.headers["Task-Cursor"]

    def delete(self, task_id: str):
        answer, _ = self.ask("DELETE", f"/api/v1/tasks/{task_id}")
        return answer.headers["Task-Cursor"]

    def batch(self, operations: list[dict]):
        answer, _ = self.ask("POST", "/api/v1/tasks:batch", {"operations": operations})
        return answer.headers["Task-Cursor"]


class Mcp(Rest):
    """The same with the tools that agents have."""

    def call(self, tool: str, **arguments):
        call = {"name": tool, "arguments": arguments}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        accept = "application/json, text/event-stream"
        version = {"MCP-Protocol-Version": "2025-06-18"}
        answer, content = self.ask("POST", "/mcp", request, Accept=accept, **version)
        text = content.decode()
        if answer.headers["Content-Type"].startswith("text/event-stream"):
            text = next(line[6:] for line in text.splitlines() if line.startswith("data: {"))
        result = json.loads(text).get("result")
        if result is None or result.get("isError"):
            raise Refused(f"{tool} {arguments}: {text}")
        return result["structuredContent"]

    def create(self, task: dict):
        made = self.call("create_task", **task)
        return made["task"]["id"], made["cursor"]

    def update(self, task_id: str, patch: dict):
        return self.call("update_task", id=task_id, **patch)["cursor"]

    def delete(self, task_id: str):
        return self.call("delete_task", id=task_id)["cursor"]

    def batch(self, operations: list[dict]):
        return self.call("batch_tasks", operations=operations)["cursor"]


def write(api: Rest, repository: str, changes: int, pause: float, dice: random.Random) -> list[str]:
    """Makes so many changes, of every kind and many at once, with pauses up to so many seconds between them; the
    cursors that were acknowledged."""
    tasks, cursors, made = [], [], 0

    def task() -> dict:
        title = f"{repository} {dice.randrange(10**6)} {dice.choice(['', 'é', '→ 樹', '🌱'])}"
        return {"repository": repository, "title": title, "tags": ["load"]}

    def patch() -> dict:
        return {"title": f"again {dice.random()}", "status": dice.choice(["pending", "completed"])}

    while made < changes:
        time.sleep(dice.uniform(0, pause))
        kind = dice.random()
        if kind < 0.15 and len(tasks) > 2 and changes - made >= 4:
            # One of each, and one more; they come next to each other in the log.
            cursors.append(api.batch([
                {"op": "create", "task": task()},
                {"op": "update", "id": tasks[-1], "patch": patch()},
                {"op": "delete", "id": tasks.pop(0)},
                {"op": "create", "task": task()},
            ]))
            made += 4
        elif kind < 0.5 and tasks:
            cursors.append(api.update(dice.choice(tasks), patch()))
            made += 1
        elif kind < 0.6 and tasks:
            cursors.append(api.delete(tasks.pop(dice.randrange(len(tasks)))))
            made += 1
        else:
            task_id, cursor = api.create(task())
            tasks.append(task_id)
            cursors.append(cursor)
            made += 1
        if dice.random() < 0.05:
            api.create(task() | {"repository": "elsewhere/noise"})
    return cursors
