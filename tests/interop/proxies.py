"""The watcher behind nginx: which way it takes, and whether anything is missed.

    proxies.py TASKWATCHD TASKWATCH NGINX

In each case nginx is restarted once and the server is killed once while changes are made. The watcher
has to print all of them, once and in order, to say which way it chose and why, and to end with 0.
"""

import http.client
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

CHANGES = 600
PATIENCE = 60

# Without these two lines, which every guide to WebSockets behind nginx has, no upgrade gets through.
UPGRADES = """
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
"""
HTTP_1_1 = "proxy_http_version 1.1;"
# It speaks HTTP/1.0 to a server unless told otherwise, and then keeps an answer until it is complete.
BUFFERS = """
    proxy_buffering on;
    proxy_ignore_headers X-Accel-Buffering;
    gzip on;
    gzip_proxied any;
    gzip_min_length 0;
    gzip_types *;
"""

PRIVATE = []
# A private server does not trust what came over HTTP/1.0.
PUBLIC = ["--anonymous", "--allow-host", "tasks.example.com"]

BLOCKED = "WebSocket is blocked: the server answered 426"
CASES = [
    ("that passes upgrades on", PRIVATE, HTTP_1_1 + UPGRADES, ["over WebSocket"]),
    ("without upgrades", PRIVATE, HTTP_1_1, ["over server-sent events", BLOCKED]),
    (
        "without upgrades that buffers",
        PUBLIC,
        BUFFERS,
        ["over long polling", BLOCKED, "server-sent events are held back: nothing came in 2s"],
    ),
]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def until(what, happened):
    """Waits for a condition."""
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise SystemExit(f"proxies: no sign of {what}")
        time.sleep(0.02)


def answers(port):
    def asked():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    return asked


def end(*processes):
    """nginx is asked, since it has children that would stay."""
    for process in processes:
        process.terminate()
        process.wait(PATIENCE)


class Process:
    """A process that listens on a port, and can be started again."""

    def __init__(self, port, command, environment=None, log=subprocess.DEVNULL):
        self.port, self.command, self.environment, self.log = port, command, environment, log
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env=self.environment
        )
        until(self.command[0], answers(self.port))

    def restart(self, how):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.start()


def nginx(binary, folder, target, settings):
    port = free_port()
    temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    paths = " ".join(f"{name}_temp_path {folder}/{name};" for name in temporary)
    config = pathlib.Path(folder, "nginx.conf")
    config.write_text(
        f"""
        daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off; {paths}
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass http://127.0.0.1:{target}; {settings} }}
            }}
        }}
        """
    )
    return Process(port, [binary, "-p", folder, "-e", f"{folder}/nginx.log", "-c", str(config)])


def write(port, first, last):
    """Makes changes, one after the other."""
    server = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for number in range(first, last):
        task = json.dumps({"repository": "foo", "title": f"change {number}"})
        server.request("POST", "/api/v1/tasks", task, {"Content-Type": "application/json"})
        answer = server.getresponse()
        answer.read()
        if answer.status != 201:
            raise SystemExit(f"proxies: a change was answered {answer.status}")
    server.close()


def watch(taskwatch, url, folder, *arguments):
    out, err = pathlib.Path(folder, "out"), pathlib.Path(folder, "err")
    command = [taskwatch, "--url", url, "--repo", "foo", "-o", "json", *arguments]
    watcher = subprocess.Popen(command, stdout=out.open("w"), stderr=err.open("w"))
    return watcher, out, err


def case(taskwatchd, taskwatch, binary, name, trust, settings, said):
    with tempfile.TemporaryDirectory() as folder:
        target = free_port()
        listen = ["--listen", f"127.0.0.1:{target}", "--data", f"{folder}/data"]
        server = Process(target, [taskwatchd, *listen, *trust])
        front = nginx(binary, folder, target, settings)
        begin = time.monotonic()
        url = f"http://127.0.0.1:{front.port}"
        watcher, out, err = watch(taskwatch, url, folder, "--count", str(CHANGES))
        try:
            until("a connection", lambda: "\nconnected to" in "\n" + err.read_text())
            connected = next(line for line in err.read_text().splitlines() if "connected to" in line)
            for part in said:
                if part not in connected:
                    raise SystemExit(f"proxies: nginx {name}: {part!r} is not in {connected!r}")
            third = CHANGES // 3

            def level(count):
                until("the changes", lambda: len(out.read_text().splitlines()) >= count)

            write(target, 0, third)
            level(third // 2)
            front.restart(signal.SIGTERM)
            write(target, third, 2 * third)
            level(third + third // 2)
            server.restart(signal.SIGKILL)
            write(target, 2 * third, CHANGES)
            code = watcher.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"proxies: nginx {name}: changes are missing:\n{err.read_text()}")
        finally:
            end(watcher, front.process, server.process)
        told = err.read_text()
        events = [json.loads(line) for line in out.read_text().splitlines()]
        titles = [event["data"]["task"]["title"] for event in events]
        if code != 0 or titles != [f"change {number}" for number in range(CHANGES)]:
            raise SystemExit(f"proxies: nginx {name}: ended with {code}:\n{titles}\n{told}")
        losses = told.count("connection lost")
        if losses < 2:
            raise SystemExit(f"proxies: nginx {name}: it was hardly cut off:\n{told}")
        seconds = time.monotonic() - begin
        print(
            f"proxies: nginx {name}: {len(events)} of {CHANGES} changes in order, {said[0]}, "
            f"cut off {losses} times, in {seconds:.1f} s"
        )


def refused(taskwatchd, taskwatch, binary):
    """A private server says what is wrong with HTTP/1.0, and the watcher repeats it."""
    with tempfile.TemporaryDirectory() as folder:
        target = free_port()
        listen = ["--listen", f"127.0.0.1:{target}", "--data", f"{folder}/data"]
        server = Process(target, [taskwatchd, *listen])
        front = nginx(binary, folder, target, "")
        watcher, _, err = watch(taskwatch, f"http://127.0.0.1:{front.port}", folder)
        try:
            code = watcher.wait(PATIENCE)
        finally:
            end(watcher, front.process, server.process)
        told = " ".join(line for line in err.read_text().splitlines() if line.startswith("error: "))
        if code != 3 or "proxy" not in told:
            raise SystemExit(f"proxies: nginx with HTTP/1.0 ended with {code}: {told}")
        print(f"proxies: nginx with HTTP/1.0: {told}")


def main(taskwatchd, taskwatch, binary):
    for name, trust, settings, said in CASES:
        case(taskwatchd, taskwatch, binary, name, trust, settings, said)
    refused(taskwatchd, taskwatch, binary)


if __name__ == "__main__":
    main(*sys.argv[1:])
