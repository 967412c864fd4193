"""What a schema cannot say about the values of some parameters."""

import itertools

import schemathesis

REQUESTS = itertools.count()


@schemathesis.hook
def before_call(context, case, **kwargs):
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and 0 < len(key) <= 255:
        # A key stands for one request, and another request with it is rightly refused.
        case.headers["Idempotency-Key"] = f"{key[:240]}{next(REQUESTS)}"
    query = dict(case.query or {})
    page = query.get("page")
    if isinstance(page, str) and not page.startswith(("p2-", "h1-")):
        # Only one that was given is good: one that was made up is rightly refused.
        case.query = {name: value for name, value in query.items() if name != "page"}
    wait = str(query.get("wait", 25))
    if case.path.endswith("/changes") and wait.isdecimal() and int(wait) <= 60:
        # Nobody waits for events that do not come.
        case.query = {**query, "wait": 0}
