// The stream into the state, and the state onto the page.

import { subscribe } from "/taskwatch.js";
import * as api from "./api.js";
import * as board from "./board.js";
import * as states from "./state.js";
import * as task from "./task.js";

const { find, say } = board;
const signIn = find("#sign-in");
let state = states.board();
let readable, stream;
let [due, rest, told] = [0, 0, 0];

/** Draws at the next frame, or later if that takes long. */
function redraw() {
	due ||= setTimeout(requestAnimationFrame, rest, () => {
		const began = performance.now();
		due = 0;
		board.show(state);
		task.follow(state);
		setTimeout(() => (rest = Math.min(3 * (performance.now() - began), 500)));
	});
}

function clear() {
	state = states.board(state.filter);
	told = 0;
	board.pause();
	redraw();
}

async function follow() {
	clear();
	const options = { token: api.token, snapshot: true, onGap: "snapshot", freshnessMs: 2_000 };
	stream?.close();
	stream = subscribe(["*"], options);
	try {
		for await (const update of stream) {
			states.apply(state, update, Date.now());
			if (update.type === "connected") identify();
			redraw();
		}
	} catch ({ message: reason }) {
		states.apply(state, { type: "ended", reason });
		identify();
	}
}

async function identify() {
	try {
		const { subject, read } = await api.whoAmI();
		// What may be read has changed.
		if (`${(readable ??= read)}` !== `${read}`) location.reload();
		say(find("#who"), subject ?? "");
		find("#new").disabled = !!(find("#read-only").textContent = api.readOnly());
		find("#sign-out").hidden = !api.token();
	} catch ({ status, message }) {
		if (status !== 401) return !!setTimeout(identify, 5_000);
		clear();
		say(find("#refused"), api.token() ? `Not signed in: ${message}.` : "");
		if (!signIn.open) signIn.showModal();
		return false;
	}
	return true;
}

const begin = async () => (await identify()) && follow();

signIn.onsubmit = ({ target }) => {
	api.keepToken(target.elements.token.value);
	target.reset();
	begin();
};
find("#sign-out").onclick = () => {
	api.keepToken("");
	location.reload();
};
find("#new").onclick = () => task.open({ repository: "", status: "pending", priority: "medium" });
find("#pause").onclick = () => board.pause(state);
find("#filter").oninput = () => (state.filter = states.filter(find("#patterns").value, find("#words").value));
addEventListener("focusin", () => board.showPicker(state));
onclick = ({ target }) => {
	const id = target.closest("[data-id]")?.dataset.id;
	const known = state.tasks.get(id) ?? state.entries.find(({ task }) => task?.id === id)?.task;
	if (known) task.open(known);
	redraw();
};
onkeydown = (event) => {
	if (event.key !== "/" || event.target.matches("input, dialog *")) return;
	event.preventDefault();
	find("#words").focus();
};
oninput = ononline = onoffline = redraw;
setInterval(redraw, 1_000);
setInterval(() => {
	say(find("#spoken"), states.spoken(state, told));
	told = state.told;
}, 6_000);
begin();
