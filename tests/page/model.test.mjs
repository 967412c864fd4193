// A seed decides what happens to a server, the network and a reader; what the stream yields is compared with the
// log. Then the same with the module broken in one place at a time: that must be noticed.

import assert from "node:assert/strict";
import test from "node:test";
import { Server } from "./server.mjs";
import { dice, load, Reader, settle, World } from "./world.mjs";

const CASES = Number(process.env.CASES ?? 400);
const REPOSITORIES = ["a", "b", "b/c"];
const CODES = [[1006], [1001], [1011], [1012], [1012, "restart retry_after_ms=1500"], [1013], [4100], [4103], [4200], [4201], [4202], [4203], [4299]];

/** Runs one case, and throws if a promise was broken. */
async function run({ subscribe }, seed) {
  const random = dice(seed);
  const [world, server] = [new World(), new Server()];
  const withState = random() < 0.5;
  const loses = random() < 0.5; // frames get lost, so that the order of the rest cannot hold
  const patterns = withState ? [random.of(["*", "a"])] : random.of([["*"], ["a", "b/*"], ["b"]]);
  const wished = new Set(patterns);
  let isOpen = true;
  let wasLost = false;

  const write = () => {
    const kind = random.of(["created", "updated", "updated", "deleted"]);
    server.write(random.of(REPOSITORIES), random.below(6), kind);
  };
  for (let n = random.below(10); n > 0; n--) write();
  const isResuming = random() < 0.3;
  // A stream of the state that goes on from a position knows nothing of what was before: here it is one that is no more.
  const position = withState ? "c0-5" : server.cursor(random.below(server.log.length + 1));
  const since = isResuming ? position : undefined;
  const onGap = withState ? "snapshot" : "live";
  const options = world.options({ since, onGap, snapshot: withState, freshnessMs: random.of([0, 3_000]), random });
  let stream = subscribe(patterns, options);
  let reader = new Reader(stream);

  /** Connects what was dialled, if the network lets it through, and forgets what was hung up. */
  const network = async () => {
    await settle();
    for (const connection of [...server.connections]) if (connection.socket.isClosed) server.connections.delete(connection);
    const { socket } = world;
    if (socket && !socket.isOpen && !socket.isClosed) {
      if (!isOpen) socket.end(1006);
      else server.accept(socket);
    }
    await settle();
  };
  const current = () => random.of([...server.connections]);
  const deliver = async (count) => {
    for (const connection of [...server.connections]) {
      connection.deliver(count);
      await settle();
    }
  };

  const steps = [
    () => write(),
    () => write(),
    () => deliver(random.below(6)),
    () => deliver(random.below(30)),
    () => deliver(),
    () => world.advance(random.below(4_000)),
    () => world.advance(random.below(40_000)),
    () => current()?.ping(),
    () => current()?.ping(),
    () => current()?.end(...random.of(CODES)),
    () => current()?.end(),
    () => current() && random() < 0.5 && (current().isMute = true), // the link is dead, and nobody says so
    () => (isOpen = random() < 0.7),
    async () => {
      // The page is loaded again, and goes on from the position that it saved. What was lost then comes twice.
      if (withState || wasLost || !stream.cursor || random() < 0.5) return;
      reader.resume();
      const { cursor } = stream;
      stream.close();
      await settle();
      stream = subscribe(patterns, { ...options, since: cursor });
      reader = new Reader(stream, reader.updates);
    },
    () => (reader.isPaused = true),
    () => reader.resume(),
    () => (random() < 0.2 ? server.restore(random.below(server.log.length + 1)) : null),
    () => (random() < 0.2 ? (server.first = random.below(server.log.length + 1)) : null),
    () => globalThis.dispatchEvent(new Event("online")),
    () => {
      // A frame comes twice, and the server knows.
      const connection = current();
      const event = connection?.queue.findIndex((it) => it.type.startsWith("task."));
      if (event >= 0 && connection.queue.slice(event).every((it) => it.type.startsWith("task."))) {
        connection.queue.splice(event, 0, connection.queue[event]);
        connection.delivered++;
      }
    },
    async () => {
      // A frame gets lost. What shows it comes on the same connection: a count, or a frame that cannot stand alone.
      const connection = current();
      const at = connection?.queue.findIndex((it) => /^task\.|^snapshot/.test(it.type)) ?? -1;
      if (!loses || at < 0 || connection.isMute || connection.queue.length > 500) return;
      wasLost = true;
      connection.queue.splice(at, 1);
      connection.ping();
      reader.resume();
      await settle();
      await deliver();
    },
    () => {
      if (random() < 0.1) for (let n = 0; n < 1_300; n++) write();
    },
    () => {
      // A wish for more, and for less.
      if (!withState || patterns[0] === "*") return;
      const it = random.of(["b", "b/*"]);
      if (wished.delete(it)) stream.remove([it]);
      else if (wished.add(it)) stream.add([it]);
    },
  ];
  for (let n = 40 + random.below(120); n > 0; n--) {
    await random.of(steps)();
    await network();
  }
  // Now all is well: within a few minutes the stream is complete.
  isOpen = true;
  reader.resume();
  for (let n = 0; n < 60; n++) {
    await network();
    await deliver();
    current()?.ping();
    await world.advance(10_000);
    await deliver();
  }
  if (reader.error) throw reader.error;

  if (withState) judgeState(reader.updates, server, [...wished]);
  else judgeEvents(reader.updates, server, patterns, wasLost);
  assert.equal(stream.cursor, server.head(), "the position to save is where the log ends");
  // One for a deadline that came nearer, and those before it that are still to run out.
  assert.ok(world.timers.size < 50, `${world.timers.size} timers`);
  stream.close();
  await settle();
  assert.equal(reader.isDone, true);
  world.timers.clear();
}

const matches = (patterns, name) =>
  patterns.some((it) => it === name || (it.endsWith("*") && name.startsWith(it.slice(0, -1))));

/** The tasks that follow from what was told are those that are there. */
function judgeState(updates, server, wished) {
  const tasks = new Map();
  const [told, versions] = [new Set(), new Map()];
  for (const update of updates) {
    if (update.type === "snapshot") {
      for (const [id, task] of tasks) if (matches(update.repositories, task.repository)) tasks.delete(id);
      for (const id of versions.keys()) if (matches(update.repositories, id.slice(0, id.lastIndexOf("/")))) versions.delete(id);
      for (const task of update.tasks) tasks.set(task.id, task);
    } else if (update.type === "event") {
      assert.equal(told.has(update.cursor), false, `${update.cursor} came twice`);
      told.add(update.cursor);
      const { task_id, task, version } = update.event.data;
      if (version < versions.get(task_id)) continue; // it was lost, and comes late
      versions.set(task_id, version);
      task ? tasks.set(task_id, task) : tasks.delete(task_id);
    }
  }
  const sorted = (list) => list.map((it) => `${it.id} ${it.title}`).sort();
  const seen = [...tasks.values()].filter((it) => matches(wished, it.repository));
  assert.deepEqual(sorted(seen), sorted(server.state(wished)));
}

/** From its beginning, and from each gap, on: each event came once, in order, and none is missing. */
function judgeEvents(updates, server, patterns, wasLost) {
  const told = new Set();
  const stretches = [{ begin: server.begin, numbers: [] }];
  for (const update of updates) {
    if (update.type === "gap") stretches.push({ begin: update.cursor, numbers: [] });
    if (update.type !== "event") continue;
    assert.equal(told.has(update.cursor), false, `${update.cursor} came twice`);
    told.add(update.cursor);
    stretches.at(-1).numbers.push(Number(update.cursor.split("-")[1]));
  }
  for (const { begin, numbers } of stretches) {
    const isLast = numbers === stretches.at(-1).numbers;
    if (begin === undefined || (wasLost && !isLast)) continue;
    const [life, first] = begin.slice(1).split("-").map(Number);
    const log = server.lives.get(life);
    const end = isLast ? log.length : Math.max(...numbers);
    const wanted = log.map((event, at) => [at + 1, event.data.repository]).filter(([, name]) => matches(patterns, name));
    const expected = wanted.map(([at]) => at).filter((at) => at > first && at <= end);
    assert.deepEqual(wasLost ? numbers.sort((a, b) => a - b) : numbers, expected);
  }
}

test(`${CASES} seeds`, async () => {
  const module = await load();
  for (let seed = 1; seed <= CASES; seed++) {
    try {
      await run(module, seed);
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
});

const MISTAKES = {
  "events that come again are told again": ["!told.has(cursor) && received !== cursor", "true"],
  "what is behind a rewind is told again": ["out.rewound((received = verified))", "out.rewound((received = verified)), told.clear()"],
  "nothing is counted": ["(delivered ?? count) !== count", "false"],
  "a loss does not go back": ["out.rewound((received = verified))", "out.rewound(verified)"],
  "a gap is not told": ['if (isGap) tell("gap"', 'if (false) tell("gap"'],
  "a cut snapshot is not owed again": ["for (const it of accepted) wished.has(it) && owed.add(it);", "owed.clear();"],
  "a part of a snapshot is forgotten": ["for (const it of tasks) state.tasks.push(it);", "if (last) state.tasks = tasks; else state.tasks.push({});"],
  "a position is saved before it is reached": ["else cursor = position;", "cursor = position;"],
  "a silent server is waited for": ["Math.min(link.heard + link.silence, ", "Math.min("],
};
for (const [name, change] of Object.entries(MISTAKES)) {
  test(`it is noticed if ${name}`, async () => {
    const broken = await load(change);
    for (let seed = 1; seed <= CASES; seed++) {
      try {
        await run(broken, seed);
      } catch {
        return;
      }
    }
    assert.fail("nothing was noticed");
  });
}
