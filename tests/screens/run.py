"""What is on the screen, and what is left of it in the end.

    run.py TMUX BINARIES [--write]

The watcher and the board follow the same tasks through a network that is cut and a server that is
restarted. Whatever should be on the screen is waited for; what never comes is a failure.
"""

import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "interop"))

from daemon import Daemon, Rest, end_all  # noqa: E402
from network import Network  # noqa: E402
from pictures import as_image, as_text, beside, constant, write  # noqa: E402
from terminal import Terminal, has_colours  # noqa: E402

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "screens"
WIDTH, HEIGHT, LEFT = 164, 28, 78
LOAD = 400

# Title, assignee, priority, description; then whose step it is to which status.
TASKS = [
    ("Water the plants", "ana", "medium", "The large one by the window takes twice as much."),
    ("Fix login on the phone", "ben", "high", "The keyboard hides the button.\n\nSeen on small screens only."),
    ("Write the changelog", "cy", "medium", ""),
    ("Move to the new office", "ana", "low", ""),
    ("植物に水をやる", "ben", "medium", ""),
    ("Order new chairs", "cy", "low", ""),
    ("Answer the landlord 🏠", "ana", "high", ""),
    ("Plan the party 🎉", "ben", "medium", ""),
]
STEPS = [
    (3, "cancelled", "cy"), (5, "completed", "ben"), (2, "completed", "ana"), (7, "pending", "cy"),
    (4, "pending", "ana"), (6, "in_progress", "ana"), (0, "in_progress", "ana"), (1, "in_progress", "ben"),
]
AWAY = [(1, "completed", "ben"), (4, "in_progress", "cy"), (6, "completed", "ana")]


class People:
    """Those who change tasks, each with a token."""

    def __init__(self, server: Daemon, tokens: dict[str, str]):
        self.server, self.tokens, self.ids = server, tokens, []

    def ask(self, who: str, method: str, path: str, body, kind: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.tokens[who]}", "Content-Type": kind}
        return Rest(self.server.port).ask(method, path, body, **headers)[1]

    def create(self, who: str, task: dict) -> None:
        made = self.ask(who, "POST", "/api/v1/tasks", {"repository": "demo"} | task, "application/json")
        self.ids.append(re.search(rb'"id":"([^"]+)"', made)[1].decode())

    def patch(self, who: str, number: int, patch: dict) -> None:
        path = f"/api/v1/tasks/{self.ids[number]}"
        self.ask(who, "PATCH", path, patch, "application/merge-patch+json")

    def load(self) -> None:
        for number in range(LOAD):
            self.patch("cy", number % len(self.ids), {"tags": [f"r{number // len(self.ids)}"]})


def token(binary: str, file: pathlib.Path, who: str) -> str:
    command = [binary, "token", "new", "--tokens", str(file), "--id", who, "--read", "demo", "--write", "demo"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Show:
    """The screens, as they are checked, drawn, and perhaps written."""

    def __init__(self, writes: bool):
        self.writes = writes

    def picture(self, name: str, title: str, right: str, left: str | None = None) -> None:
        lines, width = constant(right), WIDTH - LEFT - 1
        if left is not None:
            lines, width = beside(constant(left), LEFT, lines), WIDTH
        assert len(as_text(lines)) > 100 and "</svg>" in as_image(lines, width, title)
        if self.writes:
            write(DOCS, name, lines, width, title)
        print(f"screens: {name}")


def stays_whole(pane, code: int) -> None:
    """The program in a pane has ended with this code, and left the terminal as it was."""
    pane.run("echo code=$?")
    pane.matches(rf"(?m)^code={code}$")
    pane.run("clear; stty -a > after; cmp before after && echo as it was")
    pane.matches(r"(?m)^as it was$")
    found = pane.ask("alternate_on"), pane.ask("cursor_flag"), pane.ask("mouse_any_flag")
    if found != ("0", "1", "0"):
        raise SystemExit(f"screens: the terminal is left in a mode of ours: {found}")
    pane.run("clear")


def begin(pane, flags: str = "", before: str = "") -> int:
    """Starts a board, and returns its process."""
    pane.run(f"stty -a > before; {before} taskwatch --repo demo --board {flags}".replace("  ", " "))
    pane.shows("Last changes", "live over WebSocket")
    shell = pane.ask("pane_pid")
    children = subprocess.run(["pgrep", "-P", shell], capture_output=True, text=True)
    return int(children.stdout.split()[0])


def story(people: People, server: Daemon, network: Network, watcher, board, show: Show) -> None:
    """Load, a cut, a restart."""
    for title, assignee, priority, description in TASKS:
        task = {"title": title, "assignee": assignee, "priority": priority, "description": description}
        people.create("ana", task)
    watcher.run("taskwatch --repo demo")
    watcher.shows("over WebSocket")
    begin(board)
    board.shows("8 tasks", "pending 8", "Water the plants")

    load = threading.Thread(target=people.load)
    load.start()
    watcher.shows("by cy")
    board.shows("~ Water", "by cy", "live over WebSocket")
    board.matches(r"live over WebSocket · \d+\.\d s behind")
    load.join()
    for number, status, who in STEPS:
        people.patch(who, number, {"status": status})
    watcher.shows("Fix login on the phone  status pending → in_progress")
    styled = board.shows("pending 2", "in progress 3", "completed 2", "cancelled 1", "→ in_progress")
    assert has_colours(styled)
    show.picture("load", "taskwatch --repo demo │ taskwatch --repo demo --board", styled, watcher.styled())

    network.cut()
    for number, status, who in AWAY:
        people.patch(who, number, {"status": status})
    watcher.matches(r"connection lost \([^)]+\);\s+retrying")
    watcher.matches(r"not connected \(cannot connect")
    styled = board.matches(r"\n reconnecting( in \d+ s)?: cannot connect")
    assert "completed 2" in board.text(), "what is known stays on the screen"
    show.picture("cut", "the network is cut", styled, watcher.styled())

    network.mend()
    told = r"reconnected after [\d.]+ s · 3 replayed · 0 lost"
    watcher.matches(told)
    styled = board.matches(r"\n live .*" + told)
    board.shows("completed 4", "(replayed)")
    show.picture("reconnected", "and is there again", styled, watcher.styled())

    network.refuse()
    server.stop()
    board.matches(r"\n reconnecting( in \d+ s)?: ")
    server.start()
    network.mend()
    told = r"reconnected after [\d.]+ s · 0 replayed · 0 lost"
    watcher.matches(told)
    styled = board.matches(r"\n live .*" + told)
    show.picture("restarted", "the server was restarted", styled, watcher.styled())


def keys(board, show: Show) -> None:
    """What somebody does who looks at a board."""
    board.press("/")
    board.type("ana")
    styled = board.shows("/ana", "Water the plants", "pending 0/1", "in progress 1/2")
    assert "Fix login" not in styled.split("Last changes")[0], styled
    show.picture("filter", "a filter", styled)
    board.press("Escape")
    board.shows("/ filter", "pending 1 ")

    board.press("Right", "Right", "Down", "Enter")
    styled = board.shows("id ", "Fix login on the phone", "The keyboard hides the button.", "History\n")
    board.matches(r"History\n.* status in_progress → completed  by ben")
    styled = board.styled()
    show.picture("details", "the details of a task", styled)
    board.press("End")
    board.matches(r"\+ created .*priority high")
    board.press("Escape")
    board.shows("Last changes")

    width = WIDTH - LEFT - 1
    board.resize(40)
    styled = board.until("two of four columns", lambda text: "2 of 4 columns" in text and "Last changes" in text)
    show.picture("narrow", "40 columns", styled)
    board.resize(width)
    board.shows("pending 1 ", "in progress 2", "completed 4", "cancelled 1")

    board.press("C-z")
    board.shows("Stopped")
    assert board.ask("alternate_on") == "0" and board.ask("cursor_flag") == "1"
    board.run("fg")
    board.shows("pending 1 ", "Last changes", "live over WebSocket")
    assert board.ask("alternate_on") == "1"
    board.press("j")
    board.press("?")
    board.shows("back to the shell; fg comes back here")
    board.press("x", "q")
    stays_whole(board, 0)


def other_ends(board, tokens: pathlib.Path) -> None:
    """The other ends that it can have."""
    begin(board)
    board.press("C-c")
    stays_whole(board, 130)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)):
        process = begin(board)
        subprocess.run(["kill", f"-{int(number)}", str(process)], check=True)
        stays_whole(board, code)

    begin(board, before="NO_COLOR=1")
    assert not has_colours(board.styled()), board.styled()
    board.press("q")
    stays_whole(board, 0)
    board.run("TERM=dumb taskwatch --repo demo --board")
    board.shows("error: --board needs a terminal: TERM=dumb")
    board.run("clear; taskwatch --repo demo --board | cat")
    board.shows("error: --board needs a terminal: stdout is none")
    board.run("clear")

    # The stream ends: the token counts no longer.
    begin(board)
    tokens.write_text(re.sub(r"(?m)^.*\bben\b.*\n", "", tokens.read_text()))
    board.shows("error: the server ", "hint: a token is given with")
    stays_whole(board, 3)


def main() -> None:
    tmux, binaries, *flags = sys.argv[1:]
    # So that what was started is ended then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    show = Show("--write" in flags)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        daemon, tokens = f"{binaries}/taskwatchd", folder / "tokens"
        people_tokens = {who: token(daemon, tokens, who) for who in ("ana", "ben", "cy")}
        with contextlib.ExitStack() as ends:
            ends.callback(end_all)
            server = Daemon(daemon, folder / "data", "--tokens", str(tokens))
            network = Network(server.port)
            env = {
                "PATH": f"{binaries}:/usr/bin:/bin",
                "TERM": "xterm-256color",
                "TASKWATCH_URL": f"http://127.0.0.1:{network.port}",
                "TASKWATCH_TOKEN": people_tokens["ben"],
            }
            terminal = Terminal(tmux, folder, WIDTH, HEIGHT, env)
            ends.callback(terminal.end)
            watcher, board = terminal.split(LEFT)
            for pane in (watcher, board):
                pane.run(f"cd {folder}; clear")
            people = People(server, people_tokens)
            story(people, server, network, watcher, board, show)
            keys(board, show)
            other_ends(board, tokens)
    print("screens: passed")


if __name__ == "__main__":
    main()
