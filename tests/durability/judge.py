"""Judges a trace of the server: was each change on disk before it was acknowledged?

The trace is made with `strace -f -yy -e trace=CALLS`. Its lines stand in the order in which calls began
and ended, so line numbers are all that is needed to tell before from after.
"""

import re
from dataclasses import dataclass, field

CALLS = "fsync,fdatasync,pwrite64,read,recvfrom,write,writev,sendto,sendmsg"

READS = {"read", "recvfrom"}
WRITES = {"write", "writev", "sendto", "sendmsg"}
SYNCS = {"fsync", "fdatasync"}

JOURNAL = "/taskwatch.db-wal"
# What is shorter is the header of the journal, or of a page in it.
PAGE = 512

LINE = re.compile(r"(?P<thread>\d+) +(?P<text>.*)")
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
CALL = re.compile(r"(?P<name>\w+)\(\d+<(?P<file>TCP:\[[^]]*\]|[^>]*)>(?P<data>.*)\) += (?P<result>-?\d+)")
REQUEST = re.compile(r', "(?P<method>[A-Z]{3,7}) /')
CHANGE = re.compile(r', "(POST|PATCH|DELETE) /api/v1/tasks')
ANSWER = re.compile(r'"HTTP/1\.1 (?P<status>\d{3}) ')


@dataclass
class Call:
    began: int
    ended: int
    name: str
    file: str
    data: str
    result: int


@dataclass
class Sync:
    """A sync of the journal that succeeded."""

    # Where the newest page began that was written before the sync began.
    page: int
    ended: int


@dataclass
class Verdict:
    """What a trace shows."""

    # Acknowledged changes.
    judged: int = 0
    syncs: int = 0
    # The lines of acknowledgements that came too early.
    early: list[int] = field(default_factory=list)


def calls(lines):
    """The calls of a trace, in the order in which they ended."""
    begun = {}
    for number, line in enumerate(lines):
        if not (line := LINE.match(line)):
            continue
        thread, text, began = line["thread"], line["text"], number
        if text.endswith(" <unfinished ...>"):
            begun[thread] = number, text.removesuffix(" <unfinished ...>")
            continue
        if resumed := RESUMED.match(text):
            if thread not in begun:
                continue
            began, first = begun.pop(thread)
            text = first + text[resumed.end() :]
        if call := CALL.match(text):
            yield Call(began, number, call["name"], call["file"], call["data"], int(call["result"]))


def judge(lines):
    """Compares each acknowledgement of a change with the syncs of the journal."""
    verdict, pages, syncs = Verdict(), [], []
    # The line where what a connection asks for had been read, if it is a change.
    asked = {}
    for call in calls(lines):
        if call.file.endswith(JOURNAL):
            if call.name == "pwrite64" and call.result >= PAGE:
                pages.append(call)
            elif call.name in SYNCS and call.result == 0:
                before = [page.began for page in pages[-256:] if page.ended < call.began]
                syncs.append(Sync(max(before, default=-1), call.ended))
        elif call.name in READS and call.result > 0:
            if REQUEST.match(call.data):
                asked[call.file] = call.ended if CHANGE.match(call.data) else None
            elif asked.get(call.file) is not None:
                asked[call.file] = call.ended
        elif call.name in WRITES and (answer := ANSWER.search(call.data)):
            read = asked.pop(call.file, None)
            if read is None or not answer["status"].startswith("2"):
                continue
            verdict.judged += 1
            # A page that was written after the request was read, and a sync after that.
            if not any(read < sync.page and sync.ended < call.began for sync in reversed(syncs)):
                verdict.early.append(call.began)
    verdict.syncs = len(syncs)
    return verdict
