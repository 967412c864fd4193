"""A Prometheus of the test's own, and its tool."""

import json
import pathlib
import re
import socket
import subprocess
import urllib.parse
import urllib.request

from daemon import await_, spawn

JOB = "taskwatch"


def shortened(rules: str) -> str:
    """The same rules for a test, where minutes, hours and days are some seconds and a gigabyte is a megabyte."""
    for pattern, short in [
        (r"\[\d+[mhd]\]", "[15s]"),
        (r"for: [1-9]\d*[mhd]", "for: 2s"),
        (r"offset \d+[mhd]", "offset 5s"),
        (r"\b1e9\b", "1e6"),
    ]:
        rules = re.sub(pattern, short, rules)
    return rules


def promtool(tools: pathlib.Path, *arguments: str, stdin: str | None = None) -> str:
    """Runs `promtool`, which has to be content."""
    done = subprocess.run([tools / "promtool", *arguments], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"alerts: promtool {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


class Prometheus:
    """Asks each target every second, and judges the rules as often."""

    def __init__(self, tools: pathlib.Path, folder: pathlib.Path, rules: str, targets: dict[str, int]):
        (folder / "rules.yml").write_text(rules)
        jobs = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in targets.items()
        ]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        scrape = [{"job_name": JOB, "static_configs": jobs}]
        config = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": scrape}
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}/api/v1"
        spawn(
            [
                str(tools / "prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/series",
                f"--web.listen-address={address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "prometheus.log").open("w"),
        )
        await_("prometheus", self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.rules())
        except OSError:
            return False

    def get(self, path: str, **query: str):
        query = urllib.parse.urlencode(query)
        with urllib.request.urlopen(f"{self.url}/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict]:
        return self.get("query", query=expression)["result"]

    def rules(self) -> list[dict]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> list[dict]:
        return [alert for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]
