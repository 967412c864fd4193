"""What can go wrong, made to go wrong on a server of its own, until its alert fires."""

import contextlib
import http.client
import os
import pathlib
import socket
import sqlite3
import subprocess
import threading
import time
import typing

from daemon import Daemon, Refused, Rest

FILES = 128


def paced(stop: threading.Event, pause: float):
    """Turns with a pause between them, until the alert has fired."""
    while not stop.wait(pause):
        yield


def task(letters: int = 0) -> dict:
    return {"repository": "foo", "title": "Water the plants", "description": "x" * letters}


def write(server: Daemon, stop: threading.Event, pause: float, letters: int = 0) -> None:
    """Makes changes, whatever is answered, also by a server that is gone for a while."""
    api = Rest(server.port)
    for _ in paced(stop, pause):
        try:
            api.create(task(letters))
        except Refused:
            pass
        except (OSError, http.client.HTTPException):
            api = Rest(server.port)


def together(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def follow(server: Daemon, query: str = "repo=foo", narrow: bool = False) -> socket.socket:
    """A WebSocket to read from, or not. A narrow one holds little that was not read."""
    reader = socket.socket()
    reader.settimeout(30)
    if narrow:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(
        f"GET /ws?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Version: 1\r\n\r\n".encode()
    )
    return reader


def until_closed(reader: socket.socket) -> None:
    """Reads whatever comes."""
    with contextlib.suppress(OSError):
        while reader.recv(1 << 20):
            pass
    reader.close()


def first_cursor(data: pathlib.Path) -> str:
    return (data / "cursor").read_text()


def some_history(server: Daemon) -> None:
    """Before anybody watches over the server: changes, and a reader's position before the last of them."""
    api = Rest(server.port)
    cursors = [api.create(task())[1] for _ in range(3)]
    (server.data / "cursor").write_text(cursors[0])


def killed(server: Daemon, stop: threading.Event) -> None:
    server.kill()


def dies_again_and_again(server: Daemon, stop: threading.Event) -> None:
    for _ in paced(stop, 2.5):
        server.kill()
        server.start()


def locked(server: Daemon, stop: threading.Event) -> None:
    """Somebody's shell holds the lock of the database."""
    with contextlib.closing(sqlite3.connect(server.data / "taskwatch.db", isolation_level=None, timeout=30)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        together(*(threading.Thread(target=write, args=(server, stop, 0.1)) for _ in range(4)))
        shell.execute("ROLLBACK")


def large_tasks(server: Daemon, stop: threading.Event) -> None:
    write(server, stop, 0.05, 60_000)


def waits_for_the_lock(server: Daemon, stop: threading.Event) -> None:
    """Somebody's job takes the lock for a second, all the time."""

    def hold() -> None:
        path = server.data / "taskwatch.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as job:
            for _ in paced(stop, 0.3):
                job.execute("BEGIN IMMEDIATE")
                time.sleep(1.2)
                job.execute("ROLLBACK")

    together(threading.Thread(target=hold), threading.Thread(target=write, args=(server, stop, 0.1)))


def garbage(server: Daemon) -> None:
    """An event whose bytes are no text any more."""
    some_history(server)
    server.stop()
    with contextlib.closing(sqlite3.connect(server.data / "taskwatch.db")) as database:
        database.execute("UPDATE event SET envelope = CAST(x'ff00ff' AS TEXT)")
        database.commit()
    server.start()


def goes_on_from_there(server: Daemon, stop: threading.Event) -> None:
    """A reader comes back with an old position, again and again."""
    for _ in paced(stop, 0.5):
        reader = follow(server, f"repo=foo&since={first_cursor(server.data)}")
        reader.settimeout(2)
        until_closed(reader)


def nobody_reads(server: Daemon, stop: threading.Event) -> None:
    readers = [follow(server, narrow=True) for _ in range(6)]
    writing = threading.Event()
    writer = threading.Thread(target=write, args=(server, writing, 0.01, 60_000))
    writer.start()
    # More than the system takes for a reader.
    time.sleep(3)
    writing.set()
    stop.wait()
    for reader in readers:
        reader.close()


def message(stream: typing.BinaryIO) -> bytes:
    """The next message of a WebSocket."""
    length = stream.read(2)[1]
    if length > 125:
        length = int.from_bytes(stream.read(2 if length == 126 else 8))
    return stream.read(length)


def reads_behind(server: Daemon, stop: threading.Event) -> None:
    """A reader that is some seconds behind, and stays so: it reads one event for each that is written."""
    reader, api = follow(server, narrow=True), Rest(server.port)
    stream = reader.makefile("rb")
    while stream.readline() != b"\r\n":
        pass
    while b'"type":"subscribed"' not in message(stream):
        pass
    # What the system takes, and some that wait in the server.
    for _ in range(45):
        api.create(task(4_000))
    for _ in paced(stop, 0.1):
        api.create(task(4_000))
        while b'"type":"task.created"' not in message(stream):
            pass
    reader.close()


def deletes_what_is_not_read(server: Daemon, stop: threading.Event) -> None:
    """A reader pauses while more comes than is kept, in memory and on disk."""
    reader = follow(server, narrow=True)

    def fill() -> None:
        api = Rest(server.port)
        for _ in range(160):
            api.create(task(60_000))

    # 36 MiB
    together(*(threading.Thread(target=fill) for _ in range(4)))
    # Nobody writes for a moment, and everything old is deleted.
    time.sleep(2.5)
    until_closed(reader)


def too_many(server: Daemon, stop: threading.Event) -> None:
    first = follow(server)
    for _ in paced(stop, 0.2):
        refused = follow(server)
        refused.recv(1)
        refused.close()
    first.close()


def few_files(server: Daemon, stop: threading.Event) -> None:
    readers = []
    while len(os.listdir(f"/proc/{server.process.pid}/fd")) < FILES * 9 // 10:
        readers.append(follow(server))
        readers[-1].recv(1)
    stop.wait()
    for reader in readers:
        reader.close()


class Fault:
    """How a server is started, what is done before anybody watches over it, and then until the alert has fired."""

    def __init__(self, make, *flags: str, before=None, under: tuple[str, ...] = ()):
        self.make, self.flags, self.before, self.under = make, flags, before, under


# A disk of 2 MiB at the folder of the data.
SMALL_DISK = ("unshare", "-rm", "sh", "-c", 'mkdir "$5" && mount -t tmpfs -o size=2m none "$5" && exec "$@"', "sh")
MAY_MOUNT = subprocess.run(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL).returncode == 0

LITTLE_HISTORY = ("--retention-events", "1")

FAULTS = {
    "TaskwatchDown": Fault(killed),
    "TaskwatchNotReady": Fault(locked),
    "TaskwatchRestartsOften": Fault(dies_again_and_again),
    "TaskwatchChangesFail": Fault(large_tasks, under=SMALL_DISK) if MAY_MOUNT else Fault(locked),
    "TaskwatchLogUnreadable": Fault(goes_on_from_there, before=garbage),
    "TaskwatchCommitsSlow": Fault(waits_for_the_lock),
    "TaskwatchDeliveriesLate": Fault(reads_behind),
    "TaskwatchReadersTooSlow": Fault(nobody_reads),
    "TaskwatchHistoryTooShort": Fault(goes_on_from_there, *LITTLE_HISTORY, before=some_history),
    "TaskwatchReadersOvertaken": Fault(deletes_what_is_not_read, *LITTLE_HISTORY),
    "TaskwatchConnectionsRefused": Fault(too_many, "--max-connections", "1"),
    "TaskwatchOpenFilesLow": Fault(few_files, under=("prlimit", f"--nofile={FILES}:{FILES}")),
    "TaskwatchStoreGrows": Fault(large_tasks),
}

# No fault that anybody knows of brings these about; late.py shows that they fire.
BUGS = {"TaskwatchEventsIgnored"}


def healthy(server: Daemon, stop: threading.Event) -> None:
    """A server that is well and has something to do: readers on each way, some that come and go, and changes."""
    readers = [follow(server) for _ in range(10)]
    stream = socket.create_connection(("127.0.0.1", server.port))
    stream.sendall(b"GET /api/v1/events?repository=foo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    readers.append(stream)
    for reader in readers:
        threading.Thread(target=until_closed, args=(reader,), daemon=True).start()

    def visit() -> None:
        api = Rest(server.port)
        cursor = api.create(task())[1]
        for _ in paced(stop, 0.5):
            follow(server, f"repo=foo&since={cursor}").close()
            follow(server, "repo=foo&snapshot=true").close()
            # A client's mistake is not the server's.
            with contextlib.suppress(Refused):
                api.create({"repository": "foo"})
            made, cursor = api.create(task())
            api.update(made, {"status": "completed"})
            api.delete(made)

    together(threading.Thread(target=visit), threading.Thread(target=write, args=(server, stop, 0.05, 300)))
    for reader in readers:
        with contextlib.suppress(OSError):
            reader.shutdown(socket.SHUT_RDWR)
