"""What a journal of hooks must be like, beside the log of the server. Pure: lists in, complaints out."""


def judge(log: list[tuple], journal: list[list]) -> list[str]:
    """What is wrong. `log` has (cursor, task, version) of each event in order, `journal` the entries of the hooks:
    ["begin" or "done", cursor, task, version, process]."""
    complaints = []
    known = {cursor: (task, version) for cursor, task, version in log}
    done = set()
    # Of each task, the cursors in the order of the log.
    events = {}
    for cursor, task, _ in log:
        events.setdefault(task, []).append(cursor)
    place = {cursor: nth for cursors in events.values() for nth, cursor in enumerate(cursors)}
    for what, cursor, task, version, _ in journal:
        if known.get(cursor) != (task, version):
            complaints.append(f"{cursor}: not in the log, or not like this")
        elif what == "done":
            done.add(cursor)
        elif what == "begin":
            earlier = events[task][:place[cursor]]
            # The one before it is enough: of that one it was checked when it began.
            if earlier and earlier[-1] not in done:
                complaints.append(f"{cursor}: began before {earlier[-1]} of the same task was handled")
        else:
            complaints.append(f"{cursor}: the environment and the event differ")
    complaints += [f"{cursor}: never handled" for cursor in known if cursor not in done]
    return complaints
