"""What the alerts, the dashboard and the runbook name: metrics and labels that there are, and each other."""

import json
import pathlib
import re

NAME = re.compile(r"\b(?:taskwatch|process)_[a-z_]*[a-z]\b")
SELECTOR = re.compile(r"\b((?:taskwatch|process)_[a-z_]*[a-z])\{([^}]*)\}")
# Every entry of the runbook says these.
PARTS = ["For users", "See it", "Likely causes", "Do", "Do not", "Over"]
# What Prometheus adds to each series.
ON_TARGETS = {"job", "instance"}
# Answers that no healthy server gives, so that no series has them.
RARE = {("code", "5..")}


def samples(metrics: str) -> list[tuple[str, dict[str, str]]]:
    """Each series of a text of metrics."""
    found = []
    for line in metrics.splitlines():
        if line and not line.startswith("#"):
            name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
            found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))))
    return found


def missing(text: str, series: list[tuple[str, dict[str, str]]]) -> list[str]:
    """What a text names and no series has."""
    known = {name for name, _ in series}
    known |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    wrong = [name for name in sorted(set(NAME.findall(text))) if name not in known]
    for name, selector in SELECTOR.findall(text):
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', selector):
            matches = re.compile(re.escape(value) if operator == "=" else value).fullmatch
            given = [labels.get(label) for of, labels in series if of == name]
            if label in ON_TARGETS or (label, value) in RARE:
                continue
            if not any(one is not None and matches(one) for one in given):
                wrong.append(f"{name}{{{label}{operator}{value!r}}}")
    return wrong


def entries(runbook: str) -> dict[str, str]:
    """The runbook by its headings."""
    parts = re.split(r"^## (Taskwatch\w+)$", runbook, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def expressions(dashboard: dict) -> list[tuple[str, str]]:
    """Each panel's title with each of its expressions."""
    panels = dashboard["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]


def check(folder: pathlib.Path, metrics: str, rules: list[dict]) -> None:
    series = samples(metrics)
    for name in ["alerts.yml", "dashboard.json", "runbook.md"]:
        text = (folder / name).read_text()
        if name == "dashboard.json":
            text = "\n".join(expression for _, expression in expressions(json.loads(text)))
        if wrong := missing(text, series):
            raise SystemExit(f"alerts: {name} names what is not in /metrics: {', '.join(wrong)}")
    runbook = entries((folder / "runbook.md").read_text())
    alerts = [rule["name"] for rule in rules]
    if sorted(alerts) != sorted(runbook):
        raise SystemExit(f"alerts: alerts {alerts} and entries of the runbook {list(runbook)} differ")
    for rule in rules:
        link = rule["annotations"].get("runbook_url")
        if link != f"runbook.md#{rule['name'].lower()}":
            raise SystemExit(f"alerts: {rule['name']} links to {link}")
        if rule["labels"].get("severity") not in ("critical", "warning"):
            raise SystemExit(f"alerts: {rule['name']} has no severity")
        for part in PARTS:
            if f"**{part}" not in runbook[rule["name"]]:
                raise SystemExit(f"alerts: the runbook does not say {part!r} of {rule['name']}")
    print(f"alerts: {len(alerts)} alerts with an entry in the runbook each; whatever they name is in /metrics")


def dashboard(folder: pathlib.Path, ask) -> None:
    """Every expression of the dashboard means something to Prometheus, and finds series of a server under load."""
    board = json.loads((folder / "dashboard.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        raise SystemExit("alerts: two panels of the dashboard have the same id")
    asked = expressions(board)
    for title, expression in asked:
        for variable, value in [("$__rate_interval", "15s"), ("$instance", "healthy")]:
            expression = expression.replace(variable, value)
        if not ask(expression):
            raise SystemExit(f"alerts: the dashboard's {title!r} shows nothing: {expression}")
    for panel in board["panels"]:
        if panel["type"] != "row" and panel["datasource"]["uid"] != "${datasource}":
            raise SystemExit(f"alerts: {panel['title']!r} has a data source of its own")
    print(f"alerts: all {len(asked)} expressions of the dashboard find something")
