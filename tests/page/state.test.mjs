// What the page knows, and says: plain data in, plain data and words out.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as states from "../../server/task-api/page/state.js";
import { ago, span, value, visible } from "../../server/task-api/page/words.js";

const NOW = Date.parse("2026-11-22T10:00:00.000Z");

const task = (id, more) => ({
	id, repository: "acme/api", title: `Task ${id}`, description: "", status: "pending", priority: "medium", assignee: null,
	tags: [], created_at: "2026-11-22T09:00:00.000Z", updated_at: "2026-11-22T09:00:00.000Z", version: 1, ...more,
});

function event(kind, of, more) {
	const data = { task_id: of.id, repository: of.repository, version: of.version, changed_by: "ana", ...more };
	const about = kind === "deleted" ? { previous: of, version: of.version + 1 } : { task: of };
	return { type: "event", replayed: false, event: { type: `task.${kind}`, timestamp: of.updated_at, cursor: "c", data: { ...data, ...about } } };
}

function board(...updates) {
	const state = states.board();
	for (const update of updates) states.apply(state, update, NOW);
	return state;
}

const connected = { type: "connected", resumed: false, server: "taskwatch/0.1.0" };
const resumed = { ...connected, resumed: true };
const snapshot = (...tasks) => ({ type: "snapshot", repositories: ["*"], tasks, cursor: "c" });
const ids = (state) => Object.fromEntries(Object.entries(states.columns(state)).map(([status, { tasks }]) => [status, tasks.map(({ id }) => id).join("")]));
const said = (state, later = 0, isOnline = true) => states.connection(state, NOW + later, isOnline).slice(0, 2).join("");

test("tasks stand by status, the last changed first", () => {
	const late = { updated_at: "2026-11-22T09:30:00.000Z" };
	const state = board(snapshot(task("a"), task("b", late), task("c", { status: "cancelled" }), task("d", { status: "on_hold" })));
	assert.deepEqual(ids(state), { pending: "ba", in_progress: "", completed: "", cancelled: "c", on_hold: "d" });
	states.apply(state, event("updated", task("a", { version: 2, status: "completed", updated_at: "2026-11-22T09:40:00.000Z" })), NOW);
	states.apply(state, event("deleted", task("b", late)), NOW);
	assert.deepEqual(ids(state), { pending: "", in_progress: "", completed: "a", cancelled: "c", on_hold: "d" });
});

test("an older event does not undo what a snapshot knows, and is told all the same", () => {
	const state = board(snapshot(task("a", { version: 3 })), event("updated", task("a", { version: 2, title: "Old" })), event("deleted", task("a")));
	assert.equal(state.tasks.get("a").version, 3);
	assert.equal(state.entries.length, 2);
});

test("a filter takes names, prefixes and words", () => {
	const of = task("a", { repository: "github.com/acme/api", title: "Water the Plants", assignee: "ana", tags: ["home"] });
	for (const [patterns, words, isThrough] of [
		["", "", true],
		["github.com/acme/api", "", true],
		["github.com/acme", "", false],
		["garden, github.com/*", "", true],
		["*", "PLANTS ana", true],
		["", "home water", true],
		["", "water roses", false],
		["garden", "water", false],
	]) {
		assert.equal(states.letsThrough(states.filter(patterns, words), of), isThrough, `${patterns} ${words}`);
	}
	const state = board(snapshot(of, task("b")));
	state.filter = states.filter("github.com/*", "");
	const { total, tasks } = states.columns(state).pending;
	assert.deepEqual([total, tasks.length], [2, 1]);
});

test("the connection says what is so", () => {
	const state = board();
	const step = (update, words, later) => {
		if (update) states.apply(state, update, NOW);
		assert.equal(said(state, later), words);
	};
	step(null, "connecting");
	step({ type: "interrupted", reason: "refused", retryInMs: 2_000 }, "reconnecting in 2 s: refused");
	step(connected, "catching up");
	step(snapshot(task("a")), "live");
	step({ type: "fresh", behindMs: 180 }, "live · 0.2 s behind");
	step(null, "live · 0.2 s behind · checked 9 s ago", 9_000);
	step({ type: "interrupted", reason: "restart", retryInMs: 2_600 }, "reconnecting in 3 s: restart");
	step(null, "reconnecting in 1 s: restart", 2_000);
	step(null, "reconnecting: restart", 3_000);
	assert.equal(said(state, 0, false), "offline · reconnecting in 3 s");
	step(resumed, "catching up");
	step({ ...event("updated", task("a", { version: 2 })), replayed: true }, "catching up");
	step({ type: "caught_up", replayed: 14, awayMs: 41_000 }, "live");
	assert.deepEqual(state.notice, { notice: "reconnected after 41 s · 14 replayed · 0 lost", tone: "good" });
	step({ type: "ended", reason: "the token has run out" }, "offline: the token has run out");
});

test("a gap is told, and the tasks are read anew", () => {
	const state = board(connected, snapshot(task("a")), { type: "interrupted", reason: "cut", retryInMs: 0 }, connected, { type: "gap", reason: "expired" });
	assert.equal(said(state), "catching up");
	assert.match(state.notice.notice, /cannot be had any more \(expired\); going on with the tasks as they are now/);
	states.apply(state, snapshot(task("b")), NOW);
	assert.deepEqual([[...state.tasks.keys()], state.gaps, said(state)], [["b"], 1, "live"]);
});

test("no word of a status is anything but a column", () => {
	const state = board(snapshot(task("a", { status: "__proto__" }), task("b", { status: "constructor" })));
	assert.deepEqual([states.columns(state)["__proto__"].total, states.columns(state).constructor.total, {}.total], [1, 1, undefined]);
});

test("the list of what happened has an end", () => {
	const state = board();
	for (let version = 1; version <= 600; version++) states.apply(state, event("updated", task("a", { version })), NOW);
	assert.deepEqual([state.entries.length, state.told, state.entries[0].version], [500, 600, 600]);
	assert.equal(states.spoken(state, 597), "3 changes in acme/api");
	assert.equal(states.spoken(state, 600), "");
});

test("an update that this page does not know changes nothing", () => {
	const state = board(connected, snapshot(task("a")));
	const before = structuredClone({ ...state, came: null });
	states.apply(state, { type: "moved" }, NOW);
	assert.deepEqual({ ...state, came: null }, before);
});

test("text of others is made visible", () => {
	assert.equal(visible("a\u202eb\u0007\n\u200b\ufeff\u{e0041}"), "a\\u{202e}b\\u{7}\\u{a}\\u{200b}\\u{feff}\\u{e0041}");
	assert.equal(visible("grün ❤\ufe0f <b>"), "grün ❤\ufe0f <b>");
	for (const [of, text] of [["in_progress", "in_progress"], ["a → b", '"a → b"'], ['"', '"\\""'], [null, "–"], [undefined, "(truncated)"], [["a", "b c"], '[a, "b c"]'], ["", '""'], ["\u3164", '"\\u{3164}"']]) {
		assert.equal(value(of), text);
	}
});

test("times are such as a person can grasp", () => {
	for (const [ms, text] of [[0, "0.1 s"], [840, "0.8 s"], [41_000, "41 s"], [185_000, "3 min 5 s"]]) assert.equal(span(ms), text);
	for (const [ms, text] of [[-5_000, "just now"], [41_900, "41 s ago"], [185_000, "3 min ago"], [2 * 3_600_000, "2 h ago"], [5 * 86_400_000, "5 d ago"]]) {
		assert.equal(ago(ms), text);
	}
});
