"""Which Origin and Host a server answers, asked with curl: a private server and a public one.

    origins.py TASKWATCHD [NGINX]

Each row of the table is one request: 101 (or 200 where nothing is upgraded) if it passes, 403 and the
word `origin` or `host` if it does not. Then both servers stand behind reverse proxies on loopback: a
plain one of this file's own, and nginx in its usual configurations if its path is given.
"""

import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading

NAME = "tasks.example.com"
OWN = "{own}"  # the server's own address and port

# What a page says of itself, and whether the private and the public server let it in.
ORIGINS = [
    (None, True, True),
    ("http://localhost", True, False),
    ("http://localhost:3000", True, False),
    ("https://localhost:8443", True, False),
    ("http://127.0.0.1:5173", True, False),
    ("http://[::1]:9", True, False),
    (f"http://{OWN}", True, True),
    (f"https://{NAME}", False, True),
    ("http://localhost.evil.com", False, False),
    ("http://localhost:3000.evil.com", False, False),
    ("http://localhost@evil.com", False, False),
    ("http://localhost%2eevil.com", False, False),
    ("http://127.0.0.1.nip.io", False, False),
    ("http://127.0.0.1.evil.com", False, False),
    ("http://127.1", False, False),
    ("http://0x7f000001", False, False),
    ("http://evil-localhost", False, False),
    ("http://evil.com#localhost", False, False),
    ("http://evil.com/http://localhost", False, False),
    ("http://xn--lcalhost-7fg.com", False, False),
    ("http://xn--tsks-loa.example.com", False, False),
    ("null", False, False),
    ("file://", False, False),
    ("", False, False),
    ("http://LOCALHOST", False, False),
    ("http://localhost/", False, False),
    ("http://localhost:80", False, False),
    ("https://localhost:443", False, False),
    ("ws://localhost", False, False),
    ("wss://" + NAME, False, False),
    ("chrome-extension://localhost", False, False),
    ("http://localhost http://localhost", False, False),
    (f"HTTPS://{NAME}", False, False),
    (f"https://{NAME.upper()}", False, False),
    (f"https://{NAME}/", False, False),
    (f"https://{NAME}:443", False, False),
    (f"http://{NAME}", False, False),
    (f"https://{NAME}:8443", False, False),
    (f"https://a.{NAME}", False, False),
    (f"https://{NAME}.evil.com", False, False),
    (f"https://evil-{NAME}", False, False),
    (f"https://{NAME}.", False, False),
    (f"https://{NAME[1:]}", False, False),
    (f"https://{NAME[:-1]}", False, False),
    (f"https://{NAME}@evil.com", False, False),
    (["http://localhost", "http://localhost"], False, False),
    ([f"https://{NAME}", f"https://{NAME}"], False, False),
    (["http://localhost", "http://evil.com"], False, False),
]

# What a client asks for, and who answers to it.
HOSTS = [
    (OWN, True, True),
    ("127.0.0.1", True, True),
    ("[::1]:8787", True, True),
    ("192.0.2.7", True, True),
    ("localhost", True, True),
    ("LOCALHOST:1", True, True),
    (NAME, False, True),
    (f"{NAME}:8443", False, True),
    (NAME.upper(), False, True),
    ("evil.com", False, False),
    ("localhost.evil.com", False, False),
    ("127.0.0.1.nip.io", False, False),
    ("make-127-0-0-1-rr.1u.ms", False, False),
    ("127.1", False, False),
    ("2130706433", False, False),
    ("localhost.", False, False),
    (f"{NAME}.", False, False),
    (f"a.{NAME}", False, False),
    (f"{NAME}.evil.com", False, False),
    ("x@localhost", False, False),
    (f"x@{NAME}", False, False),
    ("127.0.0.1:8787.evil.com", False, False),
    ("[127.0.0.1]", False, False),
    ("localhost:x", False, False),
    ("", False, False),
    (["localhost", "localhost"], False, False),
    (["localhost", "evil.com"], False, False),
]

# The routes beside the upgrade, and what they answer to whom they know.
ROUTES = {"/api/v1/tasks": 200, "/metrics": 200, "/healthz": 200, "/readyz": 200, "/nowhere": 404}

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "X-Version": "1",
}

failures = []
rows = 0


def curl(base, path, headers, *flags):
    """The status of the answer, and the word of a refusal."""
    command = ["curl", "-sSiN", "--max-time", "20", "--path-as-is", *flags, base + path]
    for name, values in headers.items():
        values = values if isinstance(values, list) else [values]
        for place, value in enumerate(values):
            # A colon and nothing removes a header, a semicolon sends it empty. A second Host goes
            # only in the wake of another header.
            line = f"{name}:" if value is None else f"{name}: {value}" if value else f"{name};"
            command += ["-H", f"X-Wake: 1\r\n{line}" if name == "Host" and place else line]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        status = process.stdout.readline().split()
        status = int(status[1]) if len(status) > 1 else 0
        if status == 101:
            process.kill()  # It would wait for frames.
            return status, None
        answer = process.stdout.read().decode(errors="replace")
    word = re.search(r'"code": ?"(\w+)"', answer)
    return status, word and word[1]


def expect(what, answer, expected):
    global rows
    rows += 1
    status, word = answer
    good = status == expected if isinstance(expected, int) else (status, word) == expected
    if not good:
        failures.append(what)
    mark = "ok  " if good else "FAIL"
    word = f" {word}" if status >= 400 and word else ""
    print(f"{mark} {status}{word:<14} {what}" + ("" if good else f"   expected {expected}"))


class Server:
    """A taskwatchd on a free port."""

    def __init__(self, binary, *flags):
        self.data = tempfile.TemporaryDirectory()
        command = [binary, "--listen", "127.0.0.1:0", "--data", self.data.name, *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "listening on http://" in line:
                break
        else:
            raise SystemExit("".join(said))
        self.address = line.split("http://")[1].strip()
        # So that it never waits for a reader.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    @property
    def base(self):
        return f"http://{self.address}"

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.data.cleanup()


def shown(headers):
    said = []
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            said.append(f"no {name}" if value is None else f"{name}: {value}".strip())
    return ", ".join(said)


def table(kind, server):
    def filled(value):
        if isinstance(value, list):
            return [filled(item) for item in value]
        return value and value.replace(OWN, server.address)

    def ask(path, headers, passes, word, upgrade):
        headers = {name: filled(value) for name, value in headers.items()}
        good = 101 if upgrade else ROUTES[path]
        answer = curl(server.base, path, {**headers, **(UPGRADE if upgrade else {})})
        what = f"{kind:<8} {path:<14} {shown(headers)}"
        expect(what, answer, good if passes else (403, word))

    private = kind == "private"
    for origin, *passes in ORIGINS:
        headers = {} if origin is None else {"Origin": origin}
        ask("/ws", headers, passes[not private], "origin", True)
    for host, *passes in HOSTS:
        ask("/ws", {"Host": host}, passes[not private], "host", True)
    # A page of the listed name, at the listed name, and at an address.
    ask("/ws", {"Host": NAME, "Origin": f"https://{NAME}"}, not private, "host", True)
    ask("/ws", {"Host": "evil.com", "Origin": "http://evil.com"}, False, "host", True)
    for path in ROUTES:
        ask(path, {}, True, "", False)
        ask(path, {"Origin": "http://localhost:3000"}, private, "origin", False)
        ask(path, {"Origin": f"https://{NAME}"}, not private, "origin", False)
        ask(path, {"Origin": "http://localhost.evil.com"}, False, "origin", False)
        ask(path, {"Origin": "null"}, False, "origin", False)
        ask(path, {"Host": "evil.com"}, False, "host", False)
        ask(path, {"Host": NAME}, not private, "host", False)
        ask(path, {"Host": "127.0.0.1.nip.io"}, False, "host", False)
    # HTTP/1.0 needs no Host; this server does.
    for path in ["/ws", *ROUTES]:
        answer = curl(server.base, path, {"Host": None}, "--http1.0")
        expect(f"{kind:<8} {path:<14} HTTP/1.0 without Host", answer, (403, "host"))
    # With one, it is what nginx says as it comes: a private server takes it for a proxy.
    for path, good in ROUTES.items():
        answer = curl(server.base, path, {}, "--http1.0")
        expect(f"{kind:<8} {path:<14} HTTP/1.0", answer, (403, "host") if private else good)


class Proxy:
    """A reverse proxy on loopback that adds a header, and names whom it asks."""

    def __init__(self, server, *added):
        self.upstream, self.added = server.address.rsplit(":", 1), added
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.forward, args=[client], daemon=True).start()

    def forward(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        line, rest = head.split(b"\r\n", 1)
        rest = re.sub(rb"(?im)^host:.*\r\n", b"", rest)
        added = ["Host: " + ":".join(self.upstream), *self.added]
        upstream = socket.create_connection(self.upstream)
        upstream.sendall(b"\r\n".join([line, *map(str.encode, added), rest]))
        threading.Thread(target=self.pump, args=[client, upstream], daemon=True).start()
        self.pump(upstream, client)

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        sink.close()


NGINX = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
    uwsgi_temp_path {dir}; scgi_temp_path {dir};
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; {settings} }} }}
}}
"""

UPGRADES = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
"""


class Nginx:
    def __init__(self, nginx, server, settings):
        self.dir = tempfile.TemporaryDirectory()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        config = pathlib.Path(self.dir.name, "nginx.conf")
        config.write_text(
            NGINX.format(dir=self.dir.name, port=port, upstream=server.base, settings=settings)
        )
        self.process = subprocess.Popen(
            [nginx, "-p", self.dir.name, "-c", str(config)], stderr=subprocess.DEVNULL
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("nginx does not start")

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.dir.cleanup()


def everything(what, base, expected, headers=None, upgraded=101):
    """Every route behind a proxy: all refused, or all open."""
    for path in ["/ws", *ROUTES]:
        good = upgraded if path == "/ws" else ROUTES[path]
        asked = {**(headers or {}), **(UPGRADE if path == "/ws" else {})}
        expect(f"{what:<56} {path}", curl(base, path, asked), expected or good)


def proxies(binary, nginx, private):
    refused = (403, "host")
    for added in [
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Host: tasks.example.com",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 203.0.113.7",
        "Forwarded: for=203.0.113.7",
        "Via: 1.1 proxy",
    ]:
        proxy = Proxy(private, added)
        everything(f"private, behind a proxy that adds {added.split(':')[0]}", proxy.base, refused)
    # Told of its proxy, it is not private: it asks for tokens, or does not start.
    tokens = pathlib.Path(private.data.name, "tokens.jsonl")
    command = [binary, "--listen", "127.0.0.1:0", "--data", private.data.name + "/x"]
    command += ["--trusted-proxy", "127.0.0.1"]
    started = subprocess.run(command, capture_output=True, text=True, timeout=20)
    expect("--trusted-proxy alone: does not start", (started.returncode, None), 2)
    said = 0 if "--anonymous" in started.stderr else 1
    expect("--trusted-proxy alone: says what is missing", (said, None), 0)
    make = [binary, "token", "new", "--tokens", str(tokens), "--id", "ana", "--read", "*"]
    token = subprocess.run(make, capture_output=True, text=True, check=True).stdout.strip()
    guarded = Server(binary, "--trusted-proxy", "127.0.0.1", "--tokens", str(tokens))
    proxy = Proxy(guarded, "X-Forwarded-For: 203.0.113.7")
    for path in ["/ws", "/api/v1/tasks", "/metrics"]:
        asked = UPGRADE if path == "/ws" else {}
        answer = curl(proxy.base, path, asked)
        expect(f"--trusted-proxy and --tokens, no token: {path}", answer, (401, "unauthorized"))
    bearer = {"Authorization": f"Bearer {token}"}
    expect(
        "--trusted-proxy and --tokens, with a token: /ws",
        curl(proxy.base, "/ws", {**UPGRADE, **bearer}),
        101,
    )
    answer = curl(proxy.base, "/api/v1/tasks", bearer)
    expect("--trusted-proxy and --tokens, with a token: /api/v1/tasks", answer, 200)
    if not nginx:
        print("origins: SKIPPED: nginx in front of a server; there is no nginx")
        guarded.end()
        return
    public = {"Host": NAME}
    for what, settings, headers in [
        ("as it comes", "", None),
        ("with upgrades, the Host kept", UPGRADES + "proxy_set_header Host $host;", public),
        ("with upgrades, X-Forwarded-For", UPGRADES + "proxy_set_header X-Forwarded-For $remote_addr;", None),
        ("with upgrades, X-Real-IP", UPGRADES + "proxy_set_header X-Real-IP $remote_addr;", None),
    ]:
        front = Nginx(nginx, private, settings)
        everything(f"private, behind nginx {what}", front.base, refused, headers)
        front.end()
    front = Nginx(nginx, guarded, UPGRADES + "proxy_set_header X-Forwarded-For $remote_addr;")
    expect("guarded, behind nginx: /ws", curl(front.base, "/ws", UPGRADE), (401, "unauthorized"))
    answer = curl(front.base, "/ws", {**UPGRADE, **bearer})
    expect("guarded, behind nginx, with a token: /ws", answer, 101)
    front.end()
    guarded.end()


def main(binary, nginx=None):
    private = Server(binary)
    public = Server(
        binary, "--anonymous", "--allow-host", NAME, "--allow-origin", f"https://{NAME}"
    )
    table("private", private)
    table("public", public)
    proxies(binary, nginx, private)
    private.end()
    public.end()
    print(f"origins: {rows} rows, {len(failures)} not as expected")
    sys.exit(bool(failures))


main(*sys.argv[1:])
