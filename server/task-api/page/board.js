// From the state to elements; touches only what differs.

import { columns, connection, letsThrough } from "./state.js";
import { ago, counted, value, visible, word } from "./words.js";

export const find = (selector) => document.querySelector(selector);

/** Children are elements and texts, never markup. */
export function make(name, attributes, ...children) {
	const made = document.createElement(name);
	for (const attribute in attributes) made.setAttribute(attribute, attributes[attribute]);
	made.append(...children);
	return made;
}

// The same is not spoken again.
export function say(target, text) {
	if (target.textContent !== text) target.textContent = text;
}

const since = (at) => ago(Date.now() - Date.parse(at));
const time = (at) => make("time", { datetime: at }, since(at));

function arrange(parent, children) {
	const wanted = new Set(children);
	for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
	children.forEach((child, place) => child === parent.children[place] || parent.insertBefore(child, parent.children[place]));
}

let cards = new Map();
const sections = { __proto__: null };

function card(task, came) {
	let known = cards.get(task.id);
	if (known?.task !== task) {
		const item = known?.item ?? make("li", {}, make("button", { "data-id": task.id }));
		const fields = [task.assignee, task.priority, ...task.tags.map((tag) => `#${tag}`)].filter(Boolean).join(" · ");
		known = { task, item, mark: make("i") };
		item.firstChild.className = `card ${task.priority}`;
		item.firstChild.replaceChildren(
			known.mark,
			make("b", {}, visible(task.title)),
			make("span", {}, task.repository),
			make("span", {}, make("bdi", {}, visible(fields)), time(task.updated_at)),
		);
	}
	say(known.mark, came > Date.now() - 4_000 ? (task.version > 1 ? "~" : "+") : "");
	return known;
}

function section(status) {
	const [count, list, more] = ["small", "ol", "button"].map((name) => make(name));
	const root = make("section", { "data-status": status }, make("h2", {}, word(status), " ", count), list, more);
	const made = { root, count, list, more, cap: 50 };
	more.onclick = () => (made.cap += 200);
	return made;
}

function showColumns(state) {
	const focused = document.activeElement;
	const next = new Map();
	const roots = Object.entries(columns(state)).map(([status, { total, tasks }]) => {
		const { root, count, list, more, cap } = (sections[status] ??= section(status));
		const first = tasks.slice(0, cap).map((task) => card(task, state.came.get(task)));
		for (const card of first) next.set(card.task.id, card);
		arrange(list, first.map(({ item }) => item));
		say(count, tasks.length < total ? `${tasks.length}/${total}` : `${total}`);
		say(more, `Show more (${tasks.length - cap})`);
		more.hidden = tasks.length <= cap;
		return root;
	});
	arrange(find("#board"), roots);
	cards = next;
	// A task that moves takes the focus along.
	if (focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** What happened and by whom; to which task only `among` others. */
export function change({ at, kind, task, changes, by, replayed }, among) {
	const sign = { created: "+", deleted: "−" }[kind] ?? "~";
	const about = make("p", {}, make("i", { class: kind }, `${sign} ${visible(kind)} `));
	if (among) about.append(make("button", { "data-id": task.id }, visible(task.title)));
	const fields = Object.entries(changes).map(([field, { from, to }]) =>
		make("span", {}, `${visible(field)} ${value(from)} → `, make("b", {}, value(to))),
	);
	const where = (among ? ` · ${task.repository}` : "") + (replayed ? " · replayed" : "");
	return make("li", {}, about, make("p", {}, ...fields), make("p", {}, time(at), " by ", make("bdi", {}, visible(by)), where));
}

const notice = ({ at, notice, tone = "" }) => make("li", { class: tone }, notice, make("p", {}, time(at)));

let lines = new Map();
let frozen;

export function pause(state) {
	frozen = frozen || !state ? undefined : { ...state, entries: [...state.entries] };
}

function showChanges(state) {
	const entries = (frozen ?? state).entries.filter(({ task }) => !task || letsThrough(state.filter, task)).slice(0, 60);
	lines = new Map(entries.map((entry) => [entry, lines.get(entry) ?? (entry.task ? change : notice)(entry, true)]));
	arrange(find("#changes ol"), [...lines.values()]);
	say(find("#pause"), frozen ? `Go on (${state.told - frozen.told} new)` : "Pause");
}

function showConnection(state) {
	const [word, more, health] = connection(state, Date.now(), navigator.onLine);
	const { notice = "", tone = "" } = state.notice;
	find("#connection").className = health;
	find("#notice").className = tone;
	say(find("#connection strong"), word);
	say(find("#connection span"), more);
	say(find("#notice"), notice);
	say(find("#totals"), (state.gaps ? `${counted(state.gaps, "gap")} · ` : "") + counted(state.tasks.size, "task"));
	for (const shown of document.querySelectorAll("time")) say(shown, since(shown.dateTime));
}

export function show(state) {
	showColumns(state);
	showChanges(state);
	showConnection(state);
}

export function showPicker({ tasks }) {
	const names = new Set([...tasks.values()].map(({ repository }) => repository));
	find("#repositories").replaceChildren(...[...names].sort().map((value) => make("option", { value })));
}
