"""Each alert by series that are made up: it fires when its time is over, not before, and no other does."""

import json
import pathlib

from prometheus import JOB, promtool

HEALTHY = "1x1600"


def series(metric: str, values: str, **labels: str) -> dict:
    labels = {"job": JOB, "instance": "a"} | labels
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return {"series": f"{metric}{{{text}}}", "values": values}


def quantile(metric: str, bound: str) -> list[dict]:
    """All observations are within the bound up to minute 10, and half of them from then on."""
    return [
        series(f"{metric}_bucket", "0+60x10 630+30x50", le=bound),
        series(f"{metric}_bucket", "0+60x61", le="10"),
        series(f"{metric}_bucket", "0+60x61", le="+Inf"),
    ]


def requests(failing: str) -> list[dict]:
    name, method = "taskwatch_http_requests_total", "POST"
    return [series(name, "0+60x60", method=method, code="201"), series(name, failing, method=method, code="503")]


# The series, a sample a minute, and the minute in which the alert begins to fire. In each the fault begins after
# minute 10, unless it takes longer to tell.
CASES = [
    ("TaskwatchDown", [series("up", "1x10 0x50")], 12),
    ("TaskwatchNotReady", [series("taskwatch_ready", "1x10 0x50")], 12),
    ("TaskwatchRestartsOften", [series("process_start_time_seconds", "1x8 2 3 4x50")], 11),
    ("TaskwatchChangesFail", requests("0x10 0+60x50"), 14),
    ("TaskwatchLogUnreadable", [series("taskwatch_closes_total", "0x10 1x50", code="4102")], 11),
    ("TaskwatchEventsIgnored", [series("taskwatch_events_ignored_total", "0x10 1x50")], 11),
    ("TaskwatchCommitsSlow", quantile("taskwatch_commit_seconds", "0.5"), 16),
    ("TaskwatchDeliveriesLate", quantile("taskwatch_fanout_lag_seconds", "1"), 17),
    ("TaskwatchReadersTooSlow", [series("taskwatch_closes_total", "0x10 5x50", code="4100")], 11),
    ("TaskwatchHistoryTooShort", [series("taskwatch_resets_total", "0x10 1x50", reason="expired")], 11),
    ("TaskwatchReadersOvertaken", [series("taskwatch_closes_total", "0x10 1x50", code="4202")], 11),
    ("TaskwatchConnectionsRefused", [series("taskwatch_refusals_total", "0x10 60+60x50", reason="full")], 16),
    (
        "TaskwatchOpenFilesLow",
        [series("process_open_fds", "100x10 900x50"), series("process_max_fds", "1000x61")],
        16,
    ),
    ("TaskwatchStoreGrows", [series("taskwatch_store_bytes", "1100000000x1440 2300000000x100")], 1501),
]

# What happens on a good day, and is no reason to call anybody.
GOOD_DAYS = [
    requests("0+1x60"),
    [series("taskwatch_closes_total", "0x10 1x50", code="4100")],
    [series("taskwatch_closes_total", "0+5x60", code="1012")],
    [series("taskwatch_resets_total", "0+1x60", reason="incarnation")],
    [series("process_start_time_seconds", "1x20 2x20 3x20")],
    [series("taskwatch_refusals_total", "0+1x60", reason="full")],
    [series("taskwatch_store_bytes", "1e6x1440 3e6x100")],
]


def group(made: list[dict], firing: list[tuple[int, list[str]]]) -> dict:
    """Which alerts fire, all of them, in which minutes."""
    if not any(one["series"].startswith("up{") for one in made):
        made = [*made, series("up", HEALTHY)]
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    tests = []
    for minute, alerts in firing:
        samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]
        tests.append({"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples})
    return {"interval": "1m", "input_series": made, "promql_expr_test": tests}


def check(tools: pathlib.Path, rules: pathlib.Path, folder: pathlib.Path, alerts: set[str]) -> None:
    if alerts != {alert for alert, *_ in CASES}:
        raise SystemExit(f"alerts: late.py has not the same alerts: {alerts ^ {alert for alert, *_ in CASES}}")
    groups = [group(made, [(minute - 1, []), (minute, [alert])]) for alert, made, minute in CASES]
    groups += [group(made, [(minute, []) for minute in range(60)]) for made in GOOD_DAYS]
    tests = {"rule_files": [str(rules.resolve())], "evaluation_interval": "1m", "tests": groups}
    (folder / "late.yml").write_text(json.dumps(tests))
    promtool(tools, "test", "rules", str(folder / "late.yml"))
    print(f"alerts: {len(CASES)} fire in their minute and not before, none in {len(GOOD_DAYS)} good days")
