CREATE TABLE task (
    id          TEXT PRIMARY KEY NOT NULL,
    repository  TEXT NOT NULL,
    title       TEXT NOT NULL,
    status      TEXT NOT NULL,
    priority    TEXT NOT NULL,
    assignee    TEXT,
    tags        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    description TEXT NOT NULL
) STRICT;
CREATE INDEX task_by_repository ON task (repository, id);
CREATE TABLE event (
    seq        INTEGER PRIMARY KEY NOT NULL,
    repository TEXT NOT NULL,
    kind       TEXT NOT NULL,
    ts         INTEGER NOT NULL,
    envelope   TEXT NOT NULL
) STRICT;
CREATE TABLE state (
    id      INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    head    INTEGER NOT NULL,
    floor   INTEGER NOT NULL,
    last_ts INTEGER NOT NULL
) STRICT;
CREATE TABLE incarnation (
    ordinal INTEGER PRIMARY KEY NOT NULL,
    id      INTEGER NOT NULL,
    first   INTEGER NOT NULL
) STRICT;
INSERT INTO incarnation VALUES (1, 255, 1);
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :events)
    INSERT INTO task
    SELECT printf('00000000-0000-7000-8000-%012x', n), 'acme/api', 'Task ' || n, 'pending', 'low', NULL,
           '["a"]', 1700000000000, 1700000000000, 1, hex(zeroblob(400))
    FROM n;
INSERT INTO event
    SELECT rowid, repository, 'task.created', created_at, json_object(
        'type', 'task.created', 'timestamp', '2023-11-14T22:13:20.000Z',
        'cursor', 'c1-00000000000000ff-' || rowid,
        'data', json_object(
            'task_id', id, 'repository', repository, 'version', 1, 'changed_by', 'api',
            'task', json_object(
                'id', id, 'repository', repository, 'title', title, 'description', description,
                'status', status, 'priority', priority, 'assignee', NULL, 'tags', json(tags),
                'created_at', '2023-11-14T22:13:20.000Z', 'updated_at', '2023-11-14T22:13:20.000Z',
                'version', 1)))
    FROM task;
INSERT INTO state VALUES (1, :events, 0, 1700000000000);
PRAGMA user_version = 1;
