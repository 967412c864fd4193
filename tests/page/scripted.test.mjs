// Each promise of taskwatch.js, with a server that says what the golden frames of the protocol say.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { load, Reader, settle, World } from "./world.mjs";

const { subscribe } = await load();
const PROTOCOL = new URL("../../protocol/", import.meta.url);
const vector = (name) => JSON.parse(readFileSync(new URL(`vectors/server.${name}.json`, PROTOCOL), "utf8"));
const SERVER_FRAMES = readdirSync(new URL("vectors/", PROTOCOL)).filter((name) => name.startsWith("server."));

const WELCOME = vector("welcome");
const at = (number) => `c1-9f3a0c5d7e214b68-${number}`;
const event = (number) => ({ ...vector("task.created"), cursor: at(number) });
const ping = (delivered, number) => ({ type: "ping", cursor: at(number), data: { delivered } });

/** A stream, its reader and the world it lives in. */
async function begin(patterns, options = {}) {
  const world = new World();
  const stream = subscribe(patterns, world.options(options));
  const reader = new Reader(stream);
  await settle();
  const tell = async (...frames) => {
    for (const frame of frames) world.socket.text(frame);
    await settle();
  };
  /** Connects, and answers the first subscription with this golden frame. */
  const connect = async (name, more = {}) => {
    world.socket.open();
    const answer = vector(name);
    await tell(WELCOME, { ...answer, id: world.socket.sent[0].id, ...more, data: { ...answer.data, denied: [], ...more.data } });
  };
  /** The end of the connection, and the wait after it. */
  const end = async (code, reason) => {
    world.socket.end(code, reason);
    await settle();
    await world.advance(reader.updates.at(-1)?.retryInMs ?? 0);
  };
  return { world, stream, reader, tell, connect, end };
}
const last = (reader) => reader.updates.at(-1);

test("every golden frame of a server can be read", async () => {
  for (const name of SERVER_FRAMES) {
    const { reader, tell, connect } = await begin(["github.com/acme/*"]);
    await connect("subscribed.live");
    const frame = JSON.parse(readFileSync(new URL(`vectors/${name}`, PROTOCOL), "utf8"));
    // Those that do not fit in here: a snapshot that was not asked for, a count of other events.
    await tell(frame);
    const fits = !/snapshot\.json|ping\.json|pong\.json/.test(name) || name.includes("subscribed");
    assert.equal(reader.types().includes("interrupted"), !fits, name);
  }
});

test("an event is told as it came, with its position", async () => {
  const { stream, reader, tell, connect } = await begin(["github.com/acme/*"]);
  await connect("subscribed.live", { cursor: at(40) });
  await tell(vector("task.created"), vector("task.updated"), vector("ping"), vector("task.deleted"), vector("unknown"));
  assert.deepEqual(reader.types(), ["connected", "event", "event", "event"]);
  assert.deepEqual(reader.updates[1], { type: "event", event: vector("task.created"), cursor: at(41), replayed: false });
  assert.deepEqual(reader.updates[0], { type: "connected", resumed: false, server: "taskwatch/0.1.0" });
  assert.equal(stream.cursor, at(43));
});

test("it goes on from the last position, and tells when it is level", async () => {
  const { world, reader, tell, connect, end } = await begin(["foo"], { since: at(40) });
  const subscription = () => world.socket.sent[0].data;
  world.socket.open();
  assert.deepEqual(subscription(), { repositories: ["foo"], since: at(40), on_gap: "error" });
  await tell(WELCOME, { ...vector("subscribed.resumed"), id: "1" });
  const again = world.socket.sent.at(-1);
  assert.equal(again.type, "subscribe");
  await tell(event(41), event(42), { ...vector("subscribed.live"), id: again.id, data: { accepted: ["foo"], denied: [], mode: "live" } }, event(43));
  assert.deepEqual(reader.types(), ["connected", "event", "event", "caught_up", "event"]);
  assert.deepEqual(reader.updates.filter((it) => it.type === "event").map((it) => it.replayed), [true, true, false]);
  assert.equal(reader.updates[3].replayed, 2);
  await end();
  await connect("subscribed.resumed", { cursor: at(43), data: { head: at(43) } });
  assert.equal(subscription().since, at(43));
  assert.deepEqual(last(reader), { type: "caught_up", replayed: 0, awayMs: 250 });
});

test("a token is a subprotocol, asked for at each connect", async () => {
  const given = ["a+b/c?=", "second", "third"];
  const { world, reader, end } = await begin(["*"], { token: async () => given.shift(), url: "https://host:8/tasks/" });
  assert.equal(world.socket.url, "wss://host:8/tasks/ws");
  assert.deepEqual(world.socket.protocols, ["taskwatch.v1", "bearer.YStiL2M_PQ"]);
  // Refused once it is asked for again at once; refused twice it is over.
  world.socket.open();
  await end(4001, "unauthorized");
  assert.deepEqual(last(reader).retryInMs, 0);
  assert.deepEqual(world.socket.protocols[1], "bearer.c2Vjb25k");
  world.socket.open();
  await end(4001, "unauthorized");
  assert.equal(reader.error.code, "unauthorized");
  assert.equal(reader.error.close, 4001);
});

test("a token that cannot be had now is asked for later", async () => {
  let isThere = false;
  const token = () => {
    if (!isThere) throw new Error("not yet");
    return "text";
  };
  const { world, reader } = await begin(["*"], { token });
  assert.deepEqual(reader.updates, [{ type: "interrupted", reason: "not yet", retryInMs: 250 }]);
  isThere = true;
  await world.advance(250);
  assert.deepEqual(world.socket.protocols, ["taskwatch.v1", "bearer.dGV4dA"]);
});

test("a close code means what PROTOCOL.md says", async () => {
  const text = readFileSync(new URL("PROTOCOL.md", PROTOCOL), "utf8");
  const rows = [...text.matchAll(/^\| (\d{4}) \| `\w+` \| .* \| (.*) \|$/gm)];
  assert.ok(rows.length > 20);
  const unknown = [[, 4077, "stop"], [, 4177, "back off"], [, 4277, "come back at once"], [, 3000, "back off"], [, 1006, "back off"]];
  for (const [, code, advice] of [...rows, ...unknown]) {
    const { reader, connect, end } = await begin(["foo"], { random: () => 1 });
    await connect("subscribed.live");
    await end(Number(code), "");
    const least = Number(/at least (\d+) s/.exec(advice)?.[1] ?? 0) * 1_000;
    if (advice === "stop") assert.match(reader.error?.code ?? "", /^(closed|unauthorized)$/, code);
    else if (advice === "come back at once") assert.equal(reader.updates[1].retryInMs, 0, code);
    else assert.equal(reader.updates[1].retryInMs, Number(code) === 1012 ? 5_000 : Math.max(500, least), code);
  }
});

test("what the server advises is obeyed, also when somebody is back", async () => {
  const { world, connect, end } = await begin(["foo"]);
  await connect("subscribed.live");
  world.socket.end(1012, "restart retry_after_ms=7000");
  dispatchEvent(new Event("online"));
  await world.advance(6_999);
  assert.equal(world.sockets.length, 1);
  await world.advance(1);
  assert.equal(world.sockets.length, 2);
  await connect("subscribed.resumed");
  await end(4203, "access_changed");
  assert.equal(world.sockets.length, 3);
});

test("waits double, and begin small again only after a link that has proven itself", async () => {
  const { world, reader, connect, end } = await begin(["foo"], { random: () => 1 });
  const waits = () => reader.updates.filter((it) => it.type === "interrupted").map((it) => it.retryInMs);
  for (let n = 0; n < 8; n++) await end(1006, "");
  assert.deepEqual(waits(), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  await connect("subscribed.live");
  await world.advance(29_999);
  await end(1006, "");
  assert.equal(waits().at(-1), 30_000);
  await connect("subscribed.resumed");
  await world.advance(30_000);
  await end(1006, "");
  assert.equal(waits().at(-1), 500);
  // Coming back at once is obeyed once: a server that says so again and again is not hammered.
  await connect("subscribed.resumed");
  await end(4203, "");
  await end(4203, "");
  assert.ok(waits().at(-1) > 0);
});

test("what does not come in time is given up", async () => {
  const { world, reader, connect } = await begin(["foo"]);
  const gaveUp = async (ms) => {
    const { length } = reader.updates;
    await world.advance(ms - 1);
    assert.equal(reader.updates.length, length);
    await world.advance(1);
    assert.equal(last(reader).type, "interrupted");
    await world.advance(last(reader).retryInMs);
    return reader.updates.findLast((it) => it.type === "interrupted").reason;
  };
  assert.equal(await gaveUp(15_000), "no connection");
  world.socket.open();
  assert.equal(await gaveUp(10_000), "the server is silent");
  world.socket.open();
  world.socket.text(WELCOME);
  assert.equal(await gaveUp(30_000), "no answer");
  await connect("subscribed.live");
  // One and a half heartbeats, and 5 s.
  assert.equal(await gaveUp(35_000), "the server is silent");
});

test("a ping is answered", async () => {
  const { world, tell, connect } = await begin(["foo"]);
  await connect("subscribed.live");
  await tell(ping(0, 42));
  assert.equal(world.socket.sent.at(-1).type, "pong");
});

test("somebody who is back waits no more, and a link is proven", async () => {
  const { world, reader, connect } = await begin(["foo"], { random: () => 1 });
  world.socket.end();
  dispatchEvent(new Event("online"));
  await settle();
  assert.equal(world.sockets.length, 2);
  await connect("subscribed.live");
  dispatchEvent(new Event("visibilitychange"));
  assert.equal(world.socket.sent.at(-1).type, "ping");
  await world.advance(2_999);
  assert.equal(last(reader).type, "connected");
  await world.advance(1);
  assert.equal(last(reader).reason, "the server is silent");
});

test("a count that differs goes back to where it did not, and tells nothing twice", async () => {
  const { world, stream, reader, tell, connect } = await begin(["foo"]);
  await connect("subscribed.live", { cursor: at(40) });
  await tell(event(41), ping(1, 41), event(42), event(44));
  assert.equal(stream.cursor, at(44));
  await tell(ping(4, 44));
  assert.equal(last(reader).reason, "4 events were sent and 3 came");
  assert.equal(stream.cursor, at(41), "what is saved does not stand behind what is missing");
  await world.advance(1_000);
  await connect("subscribed.resumed", { cursor: at(41), data: { head: at(45) } });
  assert.equal(world.socket.sent[0].data.since, at(41));
  // A bookmark amid the replay proves nothing yet of what comes behind it.
  await tell(event(42), ping(1, 42), event(43), event(44), event(45));
  assert.deepEqual(reader.events(), [41, 42, 44, 43, 45].map(at));
  await tell({ ...vector("subscribed.live"), id: world.socket.sent.findLast((it) => it.type === "subscribe").id, cursor: at(45) }, ping(4, 45));
  assert.equal(last(reader).type, "caught_up");
  assert.equal(last(reader).replayed, 2);
  assert.equal(stream.cursor, at(45));
});

test("what was not read yet keeps its position when the stream goes back", async () => {
  const { stream, reader, tell, connect } = await begin(["foo"]);
  reader.isPaused = true;
  await connect("subscribed.live", { cursor: at(40) });
  await tell(event(41), ping(1, 41), event(43), ping(3, 43));
  assert.equal(stream.cursor, at(40), "that of the answer, which is all that was read");
  reader.resume();
  await settle();
  assert.deepEqual(reader.events(), [41, 43].map(at));
  assert.equal(stream.cursor, at(41));
});

test("an answer without a position is no beginning", async () => {
  const { reader, connect } = await begin(["foo"]);
  await connect("subscribed.live", { cursor: undefined });
  assert.equal(last(reader).reason, "a beginning has no position");
});

test("an answer to something else is not taken for the first", async () => {
  const { reader, connect } = await begin(["foo"]);
  await connect("subscribed.live", { id: "7" });
  assert.equal(last(reader).reason, "an answer is missing");
});

test("a gap ends the stream, or is told", async () => {
  const strict = await begin(["foo"], { since: at(7) });
  await strict.connect("subscribed.reset");
  assert.equal(strict.reader.error.code, "gap");
  assert.equal(strict.reader.error.reason, "expired");
  assert.ok(strict.world.socket.isClosed);

  const live = await begin(["foo"], { since: at(7), onGap: "live" });
  await live.connect("subscribed.reset-live");
  assert.equal(live.world.socket.sent[0].data.on_gap, "live");
  assert.deepEqual(last(live.reader), { type: "gap", reason: "incarnation", since: at(7), cursor: at(42) });
  assert.equal(live.stream.cursor, at(42));

  // A server that begins anew without a word has a gap too.
  const silent = await begin(["foo"], { since: at(7), onGap: "live" });
  await silent.connect("subscribed.live");
  assert.equal(last(silent.reader).type, "gap");
});

const part = (number, first, lastOne) => ({
  ...vector("snapshot"),
  cursor: lastOne ? at(number) : undefined,
  data: { ...vector("snapshot").data, first, last: lastOne },
});

test("a snapshot is told whole or not at all, and asked for again", async () => {
  const { world, stream, reader, tell, connect, end } = await begin(["github.com/acme/*"], { snapshot: true, onGap: "snapshot" });
  const answer = { cursor: undefined, data: { accepted: ["github.com/acme/*"] } };
  await connect("subscribed.snapshot", answer);
  assert.equal(world.socket.sent[0].data.snapshot, true);
  await tell(part(42, true, false));
  await end();
  assert.deepEqual(reader.types(), ["connected", "interrupted"]);
  assert.equal(stream.cursor, undefined);
  await connect("subscribed.snapshot", answer);
  assert.deepEqual(world.socket.sent[0].data, { repositories: ["github.com/acme/*"], snapshot: true });
  await tell(part(42, true, false), part(42, false, false), part(42, false, true), event(43));
  assert.deepEqual(reader.types().slice(2), ["connected", "snapshot", "event"]);
  assert.equal(reader.updates[3].tasks.length, 3);
  assert.equal(reader.updates[3].cursor, at(42));
  // From here on there is a position, and no state is needed.
  await end();
  await connect("subscribed.resumed", { cursor: at(43) });
  assert.deepEqual(world.socket.sent[0].data, { repositories: ["github.com/acme/*"], since: at(43), on_gap: "snapshot" });
});

test("a snapshot that lacks a frame is noticed", async () => {
  const bad = [
    [[part(42, false, true)], "a snapshot has a hole"],
    [[part(42, true, false), part(42, true, true)], "a snapshot has a hole"],
    [[part(42, true, false), event(43)], "a snapshot has a hole"],
    [[part(42, true, false), ping(0, 42)], "a snapshot has a hole"],
    [[{ ...part(42, true, true), cursor: undefined }], "a snapshot has a hole"],
  ];
  for (const [frames, reason] of bad) {
    const { reader, tell, connect } = await begin(["github.com/acme/*"], { snapshot: true });
    await connect("subscribed.snapshot", { data: { accepted: ["github.com/acme/*"] } });
    await tell(...frames);
    assert.equal(last(reader).reason, reason);
  }
});

test("what is added begins with its state, and what was held goes on", async () => {
  const { world, stream, tell, connect, end, reader } = await begin(["foo"], { snapshot: true, onGap: "live" });
  await connect("subscribed.snapshot");
  await tell(part(42, true, true));
  stream.add(["foo", "github.com/acme/*"]);
  assert.deepEqual(world.socket.sent.at(-1).data, { repositories: ["github.com/acme/*"], snapshot: true });
  await end();
  world.socket.open();
  const asked = world.socket.sent.map((it) => it.data);
  assert.deepEqual(asked, [
    { repositories: ["foo"], since: at(42), on_gap: "live" },
    { repositories: ["github.com/acme/*"], snapshot: true },
  ]);
  stream.remove(["foo"]);
  assert.equal(world.socket.sent.at(-1).type, "unsubscribe");
  assert.equal(reader.error, null);
});

test("what may not be read is told, and what may again", async () => {
  const { world, reader, tell, connect, end } = await begin(["foo", "secret"]);
  const denied = [{ repository: "secret", code: "not_found" }];
  await connect("subscribed.live", { data: { accepted: ["foo"], denied } });
  assert.deepEqual(reader.updates, [{ type: "denied", denied }, { type: "connected", resumed: false, server: WELCOME.data.server }]);
  await end(4203, "access_changed");
  await connect("subscribed.resumed", { data: { accepted: ["foo"], denied, head: at(40) } });
  assert.deepEqual(reader.types().slice(2), ["interrupted", "connected", "caught_up"], "it is no news");
  await end(4203, "access_changed");
  await connect("subscribed.resumed", { data: { accepted: ["foo", "secret"], head: at(40) } });
  assert.deepEqual(reader.updates.find((it) => it.type === "granted"), { type: "granted", repositories: ["secret"] });
  // Nothing of what was asked for may be read.
  await end(4203, "access_changed");
  world.socket.open();
  await tell(WELCOME, { type: "subscribed", id: "1", data: { accepted: [], denied, mode: "live" } });
  assert.equal(reader.error.code, "denied");
});

test("a subscription that is refused ends the stream, or waits", async () => {
  const { world, reader, tell } = await begin(["a b"]);
  world.socket.open();
  await tell(WELCOME, { ...vector("error.retryable"), id: "1" });
  assert.equal(last(reader).retryInMs, 1_000);
  await world.advance(1_000);
  world.socket.open();
  await tell(WELCOME, { ...vector("error"), id: "1" });
  assert.equal(reader.error.code, "refused");
  assert.equal(reader.error.word, "invalid_name");
});

test("how fresh it is is asked, and told if the answer is level", async () => {
  const { world, reader, tell, connect } = await begin(["foo"], { freshnessMs: 5_000 });
  await connect("subscribed.live");
  await world.advance(0);
  const question = world.socket.sent.at(-1);
  assert.equal(question.type, "ping");
  await world.advance(30);
  await tell({ ...vector("pong"), id: question.id, data: { delivered: 0, head: at(42) } });
  assert.deepEqual(last(reader), { type: "fresh", behindMs: 30 });
  await world.advance(5_000);
  assert.notEqual(world.socket.sent.at(-1).id, question.id);
  await tell({ ...vector("pong"), id: world.socket.sent.at(-1).id, data: { delivered: 0, head: at(43) } });
  assert.equal(reader.types().filter((it) => it === "fresh").length, 1, "more is to come");
});

test("what the reader leaves is bounded, and nothing of it is lost", async () => {
  const { world, reader, tell, connect } = await begin(["foo"]);
  reader.isPaused = true;
  await connect("subscribed.live", { cursor: at(0) });
  for (let n = 1; n <= 1_200; n++) if (!world.socket.isClosed) world.socket.text(event(n));
  await tell();
  assert.ok(world.socket.isClosed);
  await world.advance(60_000);
  assert.equal(world.sockets.length, 1, "there is no room");
  reader.resume();
  await world.advance(0);
  assert.equal(last(reader).reason, "read too slowly");
  const { since } = world.socket.open() ?? world.socket.sent[0].data;
  assert.equal(since, reader.events().at(-1));
  assert.equal(new Set(reader.events()).size, reader.events().length);
});

test("a loop that is left closes the stream, and an error is thrown once", async () => {
  const world = new World();
  const stream = subscribe(["foo"], world.options());
  const left = (async () => {
    for await (const update of stream) return update.type;
  })();
  await settle();
  world.socket.end();
  assert.equal(await left, "interrupted");
  await world.advance(60_000);
  assert.equal(world.sockets.length, 1);
  // Also while nothing comes.
  const quiet = await begin(["foo"]);
  quiet.stream.close();
  await settle();
  assert.ok(quiet.reader.isDone && quiet.world.socket.isClosed && !quiet.reader.error);

  const gone = await begin(["foo"]);
  await gone.end(4003, "forbidden");
  assert.equal(gone.reader.error.name, "WatchError");
  assert.equal(gone.reader.error.message, "closed: 4003 forbidden");
  assert.equal((await gone.stream.next()).done, true);
});
