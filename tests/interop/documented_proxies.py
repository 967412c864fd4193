"""The proxies as docs/proxies.md sets them up: the text that is run is the one that is read there.

    documented_proxies.py TASKWATCHD TASKWATCH PROGRAMS

PROGRAMS has the folders `nginx`, `haproxy` and `caddy`, unpacked; what is not there is skipped. A watcher
goes through each over TLS and WebSocket while changes are made and the proxy is reloaded twice. It has to
print all of them, once and in order. Beside it a stream of server-sent events has to come at once, and the
server has to know who came, whatever they say.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from proxies import PATIENCE, Process, free_port, until, watch

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "proxies.md"
RELOADS = 2
CLIENT = "127.0.0.9"
LIE = "192.0.2.66"


def documented(language):
    """The blocks of one language in the documentation."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)


def replaced(text, *changes):
    """Ports, paths and waits of a test; each has to stand in the text."""
    for old, new in changes:
        if old not in text:
            raise SystemExit(f"proxies: {old!r} is not in docs/proxies.md")
        text = text.replace(old, str(new))
    return text


class Front:
    """A proxy in front of a server, which runs and can be reloaded."""

    def __init__(self, root, folder, target):
        self.root, self.folder, self.target, self.port = root, folder, target, free_port()
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.config = folder / "config"
        self.config.write_text(self.settings())
        self.process = Process(self.port, self.command(), self.environment())

    def environment(self):
        return None


class Nginx(Front):
    program = "usr/sbin/nginx"

    def settings(self):
        outside, inside = documented("nginx")
        outside = replaced(outside, ("worker_shutdown_timeout 10s", "worker_shutdown_timeout 1s"))
        inside = replaced(
            inside,
            ("listen 443", f"listen 127.0.0.1:{self.port}"),
            ("127.0.0.1:8787", f"127.0.0.1:{self.target}"),
            ("tasks.example.com", "localhost"),
            ("/etc/ssl/tasks.pem", self.certificate),
            ("/etc/ssl/tasks.key", self.key),
        )
        temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        paths = " ".join(f"{name}_temp_path {self.folder}/{name};" for name in temporary)
        ours = f"daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/log;"
        return f"{ours}\n{outside}\nhttp {{ access_log off; {paths}\n{inside} }}\n"

    def command(self):
        folder = str(self.folder)
        return [str(self.root / self.program), "-p", folder, "-e", f"{folder}/log", "-c", str(self.config)]

    def reload(self):
        subprocess.run([*self.command(), "-s", "reload"], check=True)


class HAProxy(Front):
    program = "usr/sbin/haproxy"

    def settings(self):
        both = self.folder / "both.pem"
        both.write_text(self.certificate.read_text() + self.key.read_text())
        (text,) = documented("haproxy")
        return replaced(
            text,
            ("hard-stop-after 10s", "hard-stop-after 1s"),
            # It refuses to start where it may not open two files for each.
            ("maxconn 20000", "maxconn 100"),
            ("bind :443", f"bind 127.0.0.1:{self.port}"),
            ("/etc/haproxy/tasks.pem", both),
            ("127.0.0.1:8787", f"127.0.0.1:{self.target}"),
        )

    def environment(self):
        return {**os.environ, "LD_LIBRARY_PATH": str(self.root / "usr/lib/x86_64-linux-gnu")}

    def command(self):
        return [str(self.root / self.program), "-W", "-f", str(self.config)]

    def reload(self):
        self.process.process.send_signal(signal.SIGUSR2)


class Caddy(Front):
    program = "usr/bin/caddy"

    def settings(self):
        (text,) = documented("caddyfile")
        self.admin = free_port()
        ours = f"admin 127.0.0.1:{self.admin}\n\tauto_https disable_redirects\n\tgrace_period 1s"
        return replaced(
            text,
            ("grace_period 10s", ours),
            ("tasks.example.com", f"localhost:{self.port}"),
            ("/etc/caddy/tasks.pem", self.certificate),
            ("/etc/caddy/tasks.key", self.key),
            ("127.0.0.1:8787", f"127.0.0.1:{self.target}"),
        )

    def environment(self):
        home = str(self.folder)
        return {**os.environ, "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}

    def command(self):
        config = ["--config", str(self.config), "--adapter", "caddyfile"]
        return [str(self.root / self.program), "run", *config]

    def reload(self):
        config = ["--config", str(self.config), "--adapter", "caddyfile", "--force"]
        address = ["--address", f"127.0.0.1:{self.admin}"]
        program = str(self.root / self.program)
        # Without --force it does nothing, as nothing has changed.
        subprocess.run([program, "reload", *config, *address], check=True, capture_output=True)


class Writer(threading.Thread):
    """Makes changes at the server itself, one after the other, until it is told to end."""

    def __init__(self, port, token):
        super().__init__()
        self.port, self.headers = port, bearer(token) | {"Content-Type": "application/json"}
        self.titles, self.failed, self.enough = [], None, threading.Event()
        self.start()

    def run(self):
        server = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while not self.enough.wait(0.02) and self.failed is None:
            title = f"change {len(self.titles)}"
            task = json.dumps({"repository": "foo", "title": title})
            server.request("POST", "/api/v1/tasks", task, self.headers)
            answer = server.getresponse()
            answer.read()
            if answer.status == 201:
                self.titles.append(title)
            else:
                self.failed = f"a change was answered {answer.status}"

    def after(self, count):
        """Waits for so many more changes."""
        until_now = len(self.titles)
        until("changes", lambda: self.failed or len(self.titles) >= until_now + count)

    def end(self):
        self.enough.set()
        self.join()
        if self.failed:
            raise SystemExit(f"proxies: {self.failed}")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def certificate(folder):
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    # Not one that may sign others, which a server's has no business to be.
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", *kind, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)


def stream(front, token):
    """Server-sent events from another address, by one who says to come from a third; how long the first took,
    and the connection, which still goes on."""
    tls = ssl.create_default_context(cafile=str(front.certificate))
    host = http.client.HTTPSConnection(
        "localhost", front.port, timeout=PATIENCE, context=tls, source_address=(CLIENT, 0)
    )
    host.request("GET", "/api/v1/events?repository=foo", headers=bearer(token) | {"X-Forwarded-For": LIE})
    answer = host.getresponse()
    if answer.status != 200:
        raise SystemExit(f"proxies: a stream is answered {answer.status}: {answer.read()}")
    begin = time.monotonic()
    while b'"type":"task.created"' not in (line := answer.readline()):
        if not line:
            raise SystemExit("proxies: a stream ended without an event")
    return time.monotonic() - begin, host


def case(taskwatchd, taskwatch, kind, root):
    name = kind.__name__.lower()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        certificate(folder)
        token = subprocess.run(
            [taskwatchd, "token", "new", "--tokens", folder / "tokens", "--id", "ana", "--read", "*", "--write", "*"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        target = free_port()
        command = [taskwatchd, "--listen", f"127.0.0.1:{target}", "--data", str(folder / "data")]
        # As docs/proxies.md says, but for the name.
        command += ["--tokens", str(folder / "tokens"), "--trusted-proxy", "127.0.0.1", "--allow-host", "tasks.example.com"]
        log = (folder / "server").open("w")
        server = Process(target, command, {**os.environ, "RUST_LOG": "info", "NO_COLOR": "1"}, log)
        started, writer = [server.process], None
        try:
            front = kind(root, folder, target)
            started.append(front.process.process)
            url = f"https://localhost:{front.port}"
            os.environ["TASKWATCH_TOKEN"] = token
            watcher, out, err = watch(taskwatch, url, scratch, "--cacert", str(front.certificate))
            started.append(watcher)
            until("a connection", lambda: "\nconnected to" in "\n" + err.read_text())
            if " over WebSocket" not in err.read_text():
                raise SystemExit(f"proxies: {name}: no WebSocket:\n{err.read_text()}")
            writer = Writer(target, token)
            waited, host = stream(front, token)
            host.close()
            for number in range(RELOADS):
                writer.after(20)
                front.reload()
                until("the reload", lambda: err.read_text().count("reconnected after") > number)
            writer.after(20)
            writer.end()
            lines = lambda: out.read_text().splitlines()
            until("all changes", lambda: len(lines()) >= len(writer.titles))
            until("who came", lambda: CLIENT in (folder / "server").read_text())
            watcher.send_signal(signal.SIGINT)
            watcher.wait(PATIENCE)
        finally:
            if writer:
                writer.enough.set()
            for process in reversed(started):
                process.terminate()
                process.wait(PATIENCE)
        told, titles = err.read_text(), [json.loads(line)["data"]["task"]["title"] for line in lines()]
        if titles != writer.titles:
            raise SystemExit(f"proxies: {name}: {len(titles)} of {len(writer.titles)} changes:\n{told}")
        if LIE in (folder / "server").read_text():
            raise SystemExit(f"proxies: {name}: a client says where it comes from, and is believed")
        print(
            f"proxies: {name} as documented: {len(titles)} of {len(titles)} changes in order over WebSocket, "
            f"{told.count('connection lost')} times cut off in {RELOADS} reloads; "
            f"a server-sent event came after {waited * 1000:.0f} ms"
        )


def main(taskwatchd, taskwatch, programs):
    for kind in (Nginx, HAProxy, Caddy):
        root = pathlib.Path(programs, kind.__name__.lower())
        if (root / kind.program).exists():
            case(taskwatchd, taskwatch, kind, root)
        else:
            print(f"proxies: SKIPPED: there is no {kind.__name__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
