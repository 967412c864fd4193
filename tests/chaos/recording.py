"""Histories are files of JSON lines, each with the time (monotonic, nanoseconds) it was written."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Recording:
    """Appends lines; each is in the file when `add` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def add(self, kind: str, **said: Any) -> int:
        with self._lock:
            now = time.monotonic_ns()
            self._file.write(json.dumps({"t": now, "kind": kind, **said}) + "\n")
            self._file.flush()
        return now

    def close(self) -> None:
        self._file.close()


def lines(path: Path) -> Iterator[Line]:
    """The lines of a recording. The last one may be torn: its writer was killed."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)


class Tail:
    """Follows a recording and looks for texts in what was appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._seen = b""

    def has(self, text: str) -> bool:
        if not self._path.exists():
            return False
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        # What was found once stays found: the end of a run asks again and again for one text.
        self._seen = self._seen[-4096:] + new
        return text.encode() in self._seen
