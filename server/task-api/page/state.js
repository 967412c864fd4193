// What the page knows, as plain data. No document, no clock.

import { counted, span, visible } from "./words.js";

export const STATUSES = ["pending", "in_progress", "completed", "cancelled"];

export const board = (filter = { patterns: [], words: [] }) => ({
	filter,
	tasks: new Map(),
	gone: new Map(),
	came: new WeakMap(), // when, by an event
	entries: [], // changes and notices, newest first
	told: 0, // how many there were
	gaps: 0,
	hasState: false,
	link: { phase: "connecting" },
	notice: {},
});

/** A pattern is a name, or ends in `*`. */
export const matches = (pattern, name) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern);

const split = (text) => text.split(/[\s,]+/).filter(Boolean);
export const filter = (patterns, words) => ({ patterns: split(patterns), words: split(words.toLowerCase()) });

const texts = new WeakMap();

/** Whether a task is of these repositories, and has each word somewhere. */
export function letsThrough({ patterns, words }, task) {
	const { title, repository, assignee, tags, id } = task;
	if (patterns.length && !patterns.some((pattern) => matches(pattern, repository))) return false;
	if (words.length && !texts.has(task)) texts.set(task, [title, repository, assignee, tags, id].join("\n").toLowerCase());
	return words.every((word) => texts.get(task).includes(word));
}

/** Tasks by status, the last changed first. A newer server may know more statuses. */
export function columns({ tasks, filter }) {
	const columns = { __proto__: null };
	const column = (status) => (columns[status] ??= { total: 0, tasks: [] });
	STATUSES.forEach(column);
	for (const task of tasks.values()) {
		column(task.status).total++;
		if (letsThrough(filter, task)) column(task.status).tasks.push(task);
	}
	const order = ({ updated_at: a }, { updated_at: b }) => (a < b) - (a > b);
	for (const status in columns) columns[status].tasks.sort(order);
	return columns;
}

export function entry({ timestamp: at, type, data }, replayed) {
	const { version, changed_by: by, task, previous, changes = {} } = data;
	return { at, kind: type.slice(5), version, by, task: task ?? previous, changes, replayed };
}

/** Takes an update of the stream, or its end: `{ type: "ended", reason }`. */
export function apply(state, update, now) {
	const { type, replayed } = update;
	const { link, tasks, gone, hasState } = state;
	const reason = visible(update.reason ?? "");
	const stand = (phase, more) => (state.link = { ...(link.phase === phase && link), phase, ...more });
	const happened = (entry) => {
		state.told++;
		state.entries.unshift(entry);
		state.entries.splice(500);
	};
	// What has a tone stands beside the connection too.
	const tell = (notice, tone) => {
		happened({ at: new Date(now).toISOString(), notice, tone });
		if (tone) state.notice = { notice, tone };
	};
	const take = {
		event() {
			const what = entry(update.event, replayed);
			const { task, version, kind } = what;
			const { id } = task;
			if (!((tasks.get(id) ?? gone.get(id))?.version >= version)) {
				tasks.delete(id);
				(kind === "deleted" ? gone : tasks).set(id, task);
			}
			state.came.set(task, now);
			happened(what);
			if (!replayed && hasState) stand("live");
		},
		fresh: () => stand(link.phase, { behind: update.behindMs, checked: now }),
		connected: () => stand("catching up"),
		interrupted() {
			stand("lost", { reason, until: now + update.retryInMs });
			state.notice = {};
			if (link.phase !== "lost") tell(`${hasState ? "connection lost" : "not connected"} (${reason})`);
		},
		caught_up() {
			stand("live");
			tell(`${update.awayMs ? `reconnected after ${span(update.awayMs)}` : "caught up"} · ${replayed} replayed · 0 lost`, "good");
		},
		snapshot() {
			tasks.clear();
			gone.clear();
			for (const task of update.tasks) tasks.set(task.id, task);
			state.hasState = true;
			stand("live");
		},
		gap() {
			state.gaps++;
			stand("catching up");
			tell(`events were missed that cannot be had any more (${reason}); going on with the tasks as they are now`, "bad");
		},
		ended: () => stand("offline", { reason }),
	};
	take[type]?.();
}

/** How it stands: a word, what is said beside it, and how good that is. */
export function connection({ link: { phase, reason, until, behind, checked } }, now, isOnline = true) {
	const [ago, left] = [now - checked, until - now].map((ms) => Math.ceil(ms / 1000));
	const age = ago > 6 ? ` · checked ${ago} s ago` : "";
	if (phase === "live") return [phase, behind === undefined ? "" : ` · ${span(behind)} behind${age}`, "good"];
	if (phase !== "lost") return [phase, reason ? `: ${reason}` : "", reason ? "bad" : ""];
	const when = left > 0 ? ` in ${left} s` : "";
	return isOnline ? ["reconnecting", `${when}: ${reason}`, "bad"] : ["offline", ` · reconnecting${when}`, "bad"];
}

/** What has changed since so many entries: `3 changes in foo`. */
export function spoken({ entries, told, filter }, before) {
	const seen = entries.slice(0, told - before).filter(({ task }) => task && letsThrough(filter, task));
	const names = seen.map(({ task }) => task.repository);
	return names.length ? `${counted(names.length, "change")} in ${[...new Set(names)].slice(0, 3).join(", ")}` : "";
}
