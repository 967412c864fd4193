"""The alerts, the dashboard and the runbook of docs/monitoring against real servers and a real Prometheus.

    run.py TASKWATCHD TOOLS      TOOLS is the folder with prometheus and promtool
"""

import pathlib
import re
import sys
import tempfile
import threading
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tests" / "interop"))

import late  # noqa: E402
import names  # noqa: E402
from daemon import Daemon, await_, end_all  # noqa: E402
from faults import BUGS, FAULTS, Fault, healthy  # noqa: E402
from prometheus import Prometheus, promtool, shortened  # noqa: E402

MONITORING = REPOSITORY / "docs" / "monitoring"
PATIENCE = 90


def metrics(server: Daemon) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        return answer.read().decode()


def one_of(server: str) -> str:
    """All that is counted of a server."""
    return f'{{__name__=~"(taskwatch|process)_.*", __name__!~".*_bucket", instance="{server}"}} != 0'


def start(binary: str, folder: pathlib.Path, name: str, fault: Fault) -> Daemon:
    server = Daemon(binary, folder / name, *fault.flags, under=fault.under)
    if fault.before:
        fault.before(server)
    return server


def run(binary: str, tools: pathlib.Path, folder: pathlib.Path) -> None:
    rules = MONITORING / "alerts.yml"
    promtool(tools, "check", "rules", str(rules))
    alerts = set(re.findall(r"^ *- alert: (\w+)$", rules.read_text(), re.MULTILINE))
    late.check(tools, rules, folder, alerts)
    if alerts != set(FAULTS) | BUGS:
        raise SystemExit(f"alerts: faults.py has not the same alerts: {alerts ^ (set(FAULTS) | BUGS)}")

    faults = FAULTS | {"healthy": Fault(healthy)}
    servers = {name: start(binary, folder, name, fault) for name, fault in faults.items()}
    targets = {name: server.port for name, server in servers.items()}
    prometheus = Prometheus(tools, folder, shortened(rules.read_text()), targets)
    seen_before = f"count(count_over_time(up[1m]) >= 3) == {len(servers)}"
    await_("a look at every server", lambda: prometheus.query(seen_before))

    begin = time.monotonic()
    stops = {name: threading.Event() for name in faults}
    threads = []
    for name, fault in faults.items():
        threads.append(threading.Thread(target=fault.make, args=(servers[name], stops[name]), daemon=True))
        threads[-1].start()

    fired = {}
    while set(FAULTS) - set(fired) and time.monotonic() - begin < PATIENCE:
        for alert in prometheus.firing():
            name, labels = alert["labels"]["alertname"], alert["labels"]
            if labels.get("instance") == "healthy":
                raise SystemExit(f"alerts: {name} fires on a server that is well: {alert}")
            if labels.get("instance") == name and name not in fired:
                fired[name] = alert["annotations"]["summary"]
                stops[name].set()
                print(f"alerts: {time.monotonic() - begin:5.1f} s  {name}: {fired[name]}")
        time.sleep(0.2)
    names.check(MONITORING, metrics(servers["healthy"]), prometheus.rules())
    names.dashboard(MONITORING, prometheus.query)
    if silent := set(FAULTS) - set(fired):
        for name in silent:
            print(f"alerts: {name}: {prometheus.query(one_of(name))}")
        raise SystemExit(f"alerts: {', '.join(sorted(silent))} did not fire")
    for stop in stops.values():
        stop.set()
    wrong = prometheus.query('count by (alertname) (count_over_time(ALERTS{instance="healthy", alertstate="firing"}[10m]))')
    if wrong:
        raise SystemExit(f"alerts: on a server that is well fired {wrong}")
    checked = promtool(tools, "check", "metrics", stdin=metrics(servers["healthy"]))
    print(f"alerts: each of {len(FAULTS)} fired on its fault, none on a server that is well{checked}")


def main(binary: str, tools: str) -> None:
    # Who is killed may still write for a moment.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            run(binary, pathlib.Path(tools), pathlib.Path(folder))
        finally:
            end_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
