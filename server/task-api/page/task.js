// One task: its fields, to edit in place, and its history, while others change it.

import { ask, readOnly } from "./api.js";
import { change, make, find, say as write } from "./board.js";
import { entry, STATUSES } from "./state.js";
import { value, visible, word } from "./words.js";

const FIELDS = ["title", "status", "priority", "assignee", "tags", "description"];
const dialog = find("#task");
const inputs = find("#task form").elements;
const past = find("#past ol");
let base; // what the fields began with; a new task has no id
let key, sent;
let opened = 0;

const say = (text) => write(find("#answer"), text);
const asText = (task, field) => [task[field] ?? ""].flat().join(", ").replace(/\r\n?/g, "\n");
const isTouched = (field) => inputs[field].value !== asText(base, field);
const settle = (field) => inputs[field].parentElement.querySelector("p")?.remove();
const address = () => `/api/v1/tasks${base.id ? `/${base.id}` : ""}`;

function asValue(field) {
	const text = inputs[field].value;
	if (field === "tags") return text.split(",").map((tag) => tag.trim()).filter(Boolean);
	return field === "description" ? text : text.trim() || null;
}

function fill(task) {
	base = task;
	for (const [field, known] of [["status", STATUSES], ["priority", ["low", "medium", "high"]]]) {
		const options = [...new Set([...known, task[field]])];
		inputs[field].replaceChildren(...options.map((value) => make("option", { value }, word(value))));
	}
	for (const field of FIELDS) inputs[field].value = asText(task, field);
	// It could not be told apart.
	inputs.tags.readOnly = !!task.tags?.some((tag) => tag.includes(","));
}

/** Opens a task, or without an id a new one. */
export function open(task) {
	const reason = readOnly(task.repository);
	opened++;
	FIELDS.forEach(settle);
	past.replaceChildren();
	fill(task);
	say(reason);
	find("#task h2").textContent = task.id ? task.repository : "New task";
	inputs.repository.value = task.repository;
	inputs.repository.parentElement.hidden = !!task.id;
	find("#past").hidden = inputs.delete.hidden = !task.id;
	find("fieldset").disabled = !!reason;
	sent = "";
	dialog.showModal();
	if (task.id) readHistory().catch(({ message }) => say(message));
}

/** Shows what happened, the last first, and tells who did that. */
async function readHistory() {
	const [{ id }, all] = [base, []];
	for (let page = ""; page !== null; ) {
		const { events, next } = await ask("GET", `${address()}/events?limit=1000${page}`);
		if (id !== base.id) return;
		all.unshift(...events.reverse());
		page = next && `&page=${next}`;
	}
	past.replaceChildren(...all.map((event) => change(entry(event))));
	return all[0]?.data.changed_by;
}

/** Others changed it: what was not touched here follows, and what was stays. */
function rebase(task, by = "somebody") {
	const mine = FIELDS.filter(isTouched).map((field) => [field, inputs[field].value, asText(base, field)]);
	fill(task);
	for (const [field, text, before] of mine) {
		const theirs = asText(task, field);
		inputs[field].value = text;
		if (before === theirs) continue;
		settle(field);
		if (text !== theirs) inputs[field].after(make("p", { role: "alert" }, `changed meanwhile by ${visible(by)} to ${value(task[field])}; yours is kept here`));
	}
}

/** The task that is open follows what happens. */
export function follow({ tasks, entries, hasState }) {
	if (!dialog.open || !base.id || !hasState) return;
	const news = entries.filter(({ task, version }) => task?.id === base.id && version > base.version);
	const task = tasks.get(base.id);
	if (!task) say("This task is gone.");
	else if (task.version > base.version) {
		past.prepend(...news.map((entry) => change(entry)));
		rebase(task, news[0]?.by);
	}
}

async function attempt(method, body) {
	const mine = opened; // later another may be
	const about = JSON.stringify([method, body, base]);
	// The same again has the same name, and is done once.
	if (about !== sent) [sent, key] = [about, crypto.getRandomValues(new Uint32Array(4)).join("-")];
	try {
		await ask(method, address(), { body, version: base.version, key });
		if (mine === opened) dialog.close();
	} catch ({ status, message }) {
		if (mine !== opened) return;
		say(`Not done: ${message}.${status < 500 ? "" : " Sent again, it is done once."}`);
		if (status !== 412) return;
		const [task, by] = await Promise.all([ask("GET", address()), readHistory()]).catch(() => [base]);
		if (mine === opened && task.version > base.version) rebase(task, by);
	}
}

find("#task form").onsubmit = (event) => {
	event.preventDefault();
	const fields = FIELDS.filter((field) => !base.id || isTouched(field));
	const body = Object.fromEntries(fields.map((field) => [field, asValue(field)]));
	if (!base.id) attempt("POST", { repository: inputs.repository.value.trim(), ...body });
	else if (fields.length) attempt("PATCH", body);
	else dialog.close();
};
inputs.delete.onclick = () => confirm(`Delete “${visible(base.title)}”?`) && attempt("DELETE");
inputs.close.onclick = () => dialog.close();
