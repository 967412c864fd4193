"""The unit files under a real systemd, which has processes, mounts and control groups of its own.

    systemd.py TASKWATCHD TASKWATCH UNITS

It starts the server with the first connection, restarts it while writers and visitors come, each on a
connection of its own, and a watcher watches; kills it; and stops it without a word. Nobody may be
refused, the watcher has to print all changes, once and in order, and the server has to be held back as the
units say. Needs root; what cannot have control groups of its own is skipped.
"""

import json
import os
import pathlib
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 60
RESTARTS = 3
VISITORS = 4

# Only what a machine has that boots, and the test does not, is set otherwise.
BOOTED = "[Unit]\nDefaultDependencies=no\n"
SOCKET = BOOTED + "[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n"
TARGET = "[Unit]\nDefaultDependencies=no\nWants=taskwatchd.socket\n"
# It dies soon, and not after the time that it is given to write its memory down.
WATCHED = "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n"

INIT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /usr/local/bin
mkdir -p /run/systemd/system
cp -r "$1"/. /run/systemd/system
touch /usr/local/bin/taskwatchd
mount --bind "$2" /usr/local/bin/taskwatchd
mount --bind "$(tty)" /dev/console
export container=test
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --log-level=notice --show-status=no
"""


def skip(why):
    print(f"systemd: SKIPPED: {why}")
    raise SystemExit(0)


def fail(what):
    raise SystemExit(f"systemd: {what}")


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        if time.monotonic() > end:
            fail(f"no sign of {what}")
        time.sleep(0.02)
    return found


def own_group():
    """A control group for all that follows."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    roots = [mount[4] for mount in mounts if mount[mount.index("-") + 1] == "cgroup2"]
    mine = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line.removeprefix("0::") for line in mine if line.startswith("0::")), None)
    if not roots or path is None:
        skip("there is no second version of control groups")
    group = pathlib.Path(roots[0] + path, f"taskwatch-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        skip(f"no control group: {error}")
    return group


class Systemd:
    def __init__(self, units, taskwatchd, log):
        self.group, self.log = own_group(), log
        self.master, slave = pty.openpty()
        kinds = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc"]
        command = ["unshare", *kinds, "bash", "-c", INIT, "init", units, taskwatchd]
        procs = self.group / "cgroup.procs"
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: procs.write_text(str(os.getpid())),
        )
        os.close(slave)
        threading.Thread(target=self.read, daemon=True).start()
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            self.init = until("its first process", lambda: children.read_text().split())[0]
        except OSError:
            skip("no namespaces of its own")
        until("systemd", lambda: self.ctl("is-active", "test.target").stdout == "active\n")

    def read(self):
        try:
            while text := os.read(self.master, 1 << 16):
                self.log.write(text)
        except OSError:
            pass

    def inside(self, *command):
        enter = ["nsenter", "--target", self.init, "--mount", "--pid"]
        return subprocess.run([*enter, *command], capture_output=True, text=True)

    def ctl(self, *command):
        return self.inside("systemctl", *command)

    def must(self, *command):
        done = self.ctl(*command)
        if done.returncode != 0:
            fail(f"systemctl {' '.join(command)}: {done.stderr}")

    def show(self, name):
        return self.ctl("show", "--value", f"--property={name}", "taskwatchd.service").stdout.strip()

    def end(self):
        self.process.kill()
        self.process.wait()

        def gone():
            try:
                for group in sorted(self.group.rglob("*/"), reverse=True):
                    group.rmdir()
                self.group.rmdir()
                return True
            except OSError:
                return False

        until("the end of all its processes", gone)


def ask(port, request):
    """One request on a connection of its own; the status line."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
        stream.sendall(request)
        return stream.makefile("rb").readline().decode().strip()


def visit(port):
    return ask(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def change(port, title):
    task = json.dumps({"repository": "foo", "title": title})
    head = "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(task)}\r\n\r\n"
    return ask(port, (head + task).encode())


class Calls:
    """They come all the time, and each must be answered well."""

    def __init__(self, port):
        self.port, self.enough = port, threading.Event()
        self.visits, self.titles, self.wrong, self.slowest = 0, [], [], 0.0
        self.threads = [threading.Thread(target=self.visit) for _ in range(VISITORS)]
        self.threads.append(threading.Thread(target=self.write))
        for thread in self.threads:
            thread.start()

    def call(self, good, call):
        begin = time.monotonic()
        try:
            answer = call()
        except OSError as error:
            answer = repr(error)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        if answer != good:
            self.wrong.append(answer)
        return answer == good

    def visit(self):
        while not self.enough.wait(0.01):
            self.call("HTTP/1.1 200 OK", lambda: visit(self.port))
            self.visits += 1

    def write(self):
        while not self.enough.wait(0.01):
            title = f"change {len(self.titles)}"
            if self.call("HTTP/1.1 201 Created", lambda: change(self.port, title)):
                self.titles.append(title)

    def end(self):
        self.enough.set()
        for thread in self.threads:
            thread.join()


def held_back(systemd):
    """What the process itself says about its sandbox."""
    pid = systemd.show("MainPID")
    status = dict(
        line.split(":\t", 1)
        for line in systemd.inside("cat", f"/proc/{pid}/status").stdout.splitlines()
        if ":\t" in line
    )
    no = int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    if not no or status["Uid"].startswith("0\t"):
        fail(f"it may do too much: {status}")
    if systemd.inside("test", "-s", "/var/lib/private/taskwatch/taskwatch.db").returncode != 0:
        fail("its data is not where it belongs")
    return status["Uid"].split("\t")[0]


def restarts(systemd, taskwatch, port, folder):
    url = f"http://127.0.0.1:{port}"
    out, err = pathlib.Path(folder, "out"), pathlib.Path(folder, "err")
    watcher = subprocess.Popen(
        [taskwatch, "--url", url, "--repo", "foo", "-o", "json"],
        stdout=out.open("w"),
        stderr=err.open("w"),
    )
    try:
        until("the watcher's connection", lambda: "connected to" in err.read_text())
        calls = Calls(port)
        try:
            for number in range(RESTARTS):
                # Otherwise it may still wait for its turn when the next one begins.
                back = lambda: err.read_text().count("reconnected after") >= number
                until("the watcher's return", back)
                before = len(calls.titles)
                until("changes", lambda: len(calls.titles) >= before + 20)
                systemd.must("restart", "taskwatchd.service")
            before = len(calls.titles)
            until("changes", lambda: len(calls.titles) >= before + 20)
        finally:
            calls.end()
        lines = lambda: out.read_text().splitlines()
        until("all changes", lambda: len(lines()) >= len(calls.titles))
        watcher.send_signal(signal.SIGINT)
        watcher.wait(PATIENCE)
    finally:
        watcher.kill()
    titles = [json.loads(line)["data"]["task"]["title"] for line in lines()]
    if calls.wrong:
        fail(f"{len(calls.wrong)} of {calls.visits + len(calls.titles)} not answered: {calls.wrong[:5]}")
    if titles != calls.titles:
        fail(f"the watcher printed {len(titles)} of {len(calls.titles)}:\n{err.read_text()}")
    lost = err.read_text().count("connection lost")
    if lost < RESTARTS or systemd.show("NRestarts") != "0":
        fail(f"the watcher was cut off {lost} times in {RESTARTS} restarts:\n{err.read_text()}")
    print(
        f"systemd: {RESTARTS} restarts: {calls.visits} visitors and {len(titles)} changes, 0 refused or reset, "
        f"the slowest answered after {calls.slowest:.1f} s; the watcher has {len(titles)} of {len(titles)}, in order"
    )


def comes_back(systemd, port, how, wanted):
    """A server that ended badly is another process soon, and who comes meanwhile waits."""
    before = systemd.show("MainPID")
    how(before)
    until("its end", lambda: systemd.show("MainPID") != before)
    if (answer := visit(port)) != "HTTP/1.1 200 OK":
        fail(f"after {wanted}: {answer}")
    if systemd.show("NRestarts") != wanted:
        fail(f"it was restarted {systemd.show('NRestarts')} times, not {wanted}")


def main(taskwatchd, taskwatch, units):
    if os.geteuid() != 0:
        skip("it takes root")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mine = pathlib.Path(folder, "units")
        for name, text in [("socket", SOCKET.format(port=port)), ("service", BOOTED)]:
            unit = mine / f"taskwatchd.{name}"
            unit.with_suffix(f".{name}.d").mkdir(parents=True)
            unit.write_text(pathlib.Path(units, unit.name).read_text())
            pathlib.Path(f"{unit}.d", "test.conf").write_text(text)
        (mine / "test.target").write_text(TARGET)
        console = pathlib.Path(folder, "console")
        try:
            with console.open("wb", buffering=0) as log:
                systemd = Systemd(str(mine), str(pathlib.Path(taskwatchd).resolve()), log)
                try:
                    show(systemd, taskwatch, port, folder)
                finally:
                    systemd.end()
        except BaseException as error:
            if getattr(error, "code", None) != 0:
                print(console.read_text(errors="replace"))
            raise


def show(systemd, taskwatch, port, folder):
    if systemd.show("ActiveState") != "inactive":
        fail("it runs before anybody comes")
    if (answer := visit(port)) != "HTTP/1.1 200 OK":
        fail(f"the first connection is answered {answer}")
    if systemd.show("StatusText") != f"serving http://127.0.0.1:{port}":
        fail(f"it says that it is {systemd.show('StatusText')!r}")
    print(f"systemd: the first connection starts it, as user {held_back(systemd)}: {systemd.show('StatusText')}")
    restarts(systemd, taskwatch, port, folder)

    def inside(name):
        return lambda pid: systemd.inside("kill", "-s", name, pid)

    comes_back(systemd, port, inside("KILL"), "1")
    systemd.inside("mkdir", "-p", "/run/systemd/system/taskwatchd.service.d")
    conf = "/run/systemd/system/taskwatchd.service.d/watched.conf"
    systemd.inside("sh", "-c", f"printf '{WATCHED}' > {conf}".replace("\n", "\\n"))
    systemd.must("daemon-reload")
    systemd.must("restart", "taskwatchd.service")
    # Longer than the watchdog waits: it is told that all is well.
    time.sleep(4)
    if systemd.show("NRestarts") != "0":
        fail("it is taken for dead while it lives")
    comes_back(systemd, port, inside("STOP"), "1")
    print("systemd: killed, and stopped without a word, it is started again, and who comes meanwhile is answered")
    begin = time.monotonic()
    systemd.must("stop", "taskwatchd.service")
    if systemd.show("Result") != "success":
        fail(f"it was stopped with {systemd.show('Result')}")
    print(f"systemd: stopped in {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
