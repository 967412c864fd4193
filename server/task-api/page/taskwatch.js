/**
 * Follows tasks from a web page: every change once and in order, also across cuts, or word that some are lost.
 *
 *     import { subscribe } from "/taskwatch.js";
 *
 *     for await (const update of subscribe(["*"], { snapshot: true })) console.log(update);
 *
 * docs/page.md says what updates there are, and how to keep tasks with them.
 */

/** `code` is gap, denied, unauthorized, refused or closed. */
export class WatchError extends Error {
	constructor(code, message, more) {
		super(message);
		Object.assign(this, { name: "WatchError", code }, more);
	}
}

/**
 * Watches names, prefixes such as "acme/*", or "*". Options: `url` of the server; `token`, a text or an (async)
 * function; `since`, a cursor to go on from; `snapshot`, true to have the tasks first; `onGap`, "error",
 * "live" or "snapshot"; `types` of events; `freshnessMs`, how often to tell it.
 *
 * The stream has `cursor`, the position behind what was read; `add`, `remove`, `close`.
 */
export function subscribe(repositories, options = {}) {
	const { WebSocket: Socket = WebSocket, setTimeout: later = setTimeout } = options;
	const { token, url = location.origin, now = () => performance.now() } = options;
	const unread = [];
	const page = new AbortController();
	// `proven`: so many of the unread need not come again.
	let [cursor, proven, armed] = [options.since, 0, Infinity];
	let isFull, end, link, wake;

	const { handle, deadline } = machine(options, {
		async dial() {
			const mine = (link = {});
			const tell = (name, value) => mine === link && input(name, value);
			try {
				const text = token?.call ? await token() : token;
				if (mine !== link) return;
				const protocols = ["taskwatch.v1"];
				if (text) protocols.push("bearer." + btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, ""));
				const address = url.replace(/^http/, "ws").replace(/(\/ws)?\/*$/, "/ws");
				const socket = (mine.socket = new Socket(address, protocols));
				socket.onopen = () => tell("opened");
				socket.onmessage = ({ data }) => tell("text", data);
				socket.onclose = (close) => tell("closed", close);
			} catch ({ message }) {
				tell("failed", message);
			}
		},
		send: (frame) => link.socket.send(JSON.stringify(frame)),
		hangUp() {
			link?.socket?.close();
			link = null;
		},
		tell(update, position = unread.at(-1)?.position ?? cursor) {
			unread.push({ update, position });
			wake?.();
		},
		bookmark(position) {
			if (unread.length) unread.at(-1).position = position;
			else cursor = position;
		},
		proven: () => (proven = unread.length),
		rewound(to) {
			if (!proven) cursor = to;
			for (const it of unread.slice(proven)) it.position = to;
		},
		stop(error) {
			end = [error];
			page.abort();
			wake?.();
		},
	});
	function input(name, value) {
		// Closes the link until there is room.
		if (!isFull && unread.length >= 1_000) {
			handle(now(), "full", (isFull = true));
			if (!Array.isArray(value)) return;
		}
		handle(now(), name, value);
		if (deadline() >= armed) return;
		const mine = (armed = deadline());
		later(() => mine === armed && input("tick", (armed = Infinity)), mine - now());
	}
	const nudge = () => globalThis.document?.hidden || input("nudge");
	for (const it of ["online", "visibilitychange"]) globalThis.addEventListener?.(it, nudge, page);
	const close = () => input("close", (unread.length = 0));
	const add = (patterns) => input("add", patterns);
	add(repositories);
	async function* updates() {
		try {
			for (;;) {
				if (unread.length) {
					[cursor, proven] = [unread[0].position, Math.max(0, proven - 1)];
					const { update } = unread.shift();
					if (isFull && unread.length <= 500) input("room", (isFull = false));
					yield update;
				} else if (end?.[0]) throw end[0];
				else if (end) return;
				else await new Promise((resolve) => (wake = resolve));
			}
		} finally {
			close();
		}
	}
	const stream = updates();
	const over = stream.return.bind(stream);
	Object.assign(stream, { add, close, remove: (patterns) => input("remove", patterns), return: () => over(close()) });
	return Object.defineProperty(stream, "cursor", { get: () => cursor });
}

/** Decides all, without socket and clock. Wants a "tick" at `deadline()`. */
export function machine({ since, snapshot, types, onGap = "error", freshnessMs, token, random = Math.random }, out) {
	const tell = (type, more, position) => out.tell({ type, ...more }, position);
	const [wished, denied] = [new Set(), new Set()];
	let phase = "idle"; // waiting, dialling, open, parked, stopped
	let now, link, awaySince, wasRefused, hasBegun;
	let [until, limit, notBefore] = [Infinity, 500, 0];
	// Those whose snapshot has not come; whether one came behind `verified`.
	let [owed, isUnproven] = [new Set(), false];
	// The last position, the last at which the counts agreed, and what was told behind that.
	let [received, verified, told] = [since, since, new Set()];

	const inputs = {
		add(patterns) {
			const added = patterns.filter((it) => !wished.has(it));
			const isOwed = snapshot && (hasBegun || phase === "open" || !received);
			for (const it of added) wished.add(it) && isOwed && owed.add(it);
			if (phase === "idle") dial();
			else if (phase === "open" && added.length) ask(added, { snapshot: isOwed });
		},
		remove(patterns) {
			const repositories = patterns.filter((it) => wished.delete(it));
			for (const it of repositories) owed.delete(it), denied.delete(it);
			if (phase === "open" && repositories.length) send("unsubscribe", { repositories });
		},
		opened() {
			if (!received && owed.size) owed = new Set(wished);
			const held = [...wished].filter((it) => !owed.has(it));
			if (!held.length) startAt();
			phase = "open";
			// 10 s for the welcome.
			link = { heard: now, silence: 10_000, answerBy: now + 30_000, asked: new Map(), ids: 0, count: 0, askAt: Infinity };
			if (held.length) ask(held, { since: received, on_gap: received && gapAllowed() });
			if (owed.size) ask([...owed], { snapshot: true });
		},
		text(text) {
			link.heard = now;
			try {
				const frame = JSON.parse(text);
				const { type, cursor } = frame;
				if (link.state && type !== "snapshot" && (cursor || type === "subscribed"))
					throw Error("a snapshot has a hole");
				frames[type]?.(frame, frame.data);
			} catch ({ message }) {
				// Goes back to where nothing was missing.
				if (isUnproven) owed = new Set(wished);
				else out.rewound((received = verified));
				lost(message);
			}
		},
		closed({ code, reason }) {
			const advice = / retry_after_ms=(\d+)/.exec(reason)?.[1];
			const asksAgain = code === 4001 && token?.call && !wasRefused;
			const said = `closed: ${code} ${reason}`;
			if (/^(100[023789]|40..)$/.test(code) && !asksAgain)
				return stop(code === 4001 ? "unauthorized" : "closed", said, { close: code });
			wasRefused ||= asksAgain;
			const least = { 1012: advice ? 0 : random() * 5_000, 1013: 5_000, 4103: 10_000 }[code] ?? 0;
			lost(said, Math.max(least, advice ?? 0), asksAgain || (/^42..$/.test(code) && !advice));
		},
		failed: lost,
		full() {
			hangUp("parked");
			tell("interrupted", { reason: "read too slowly", retryInMs: 0 });
		},
		room: () => phase === "parked" && wait(0),
		/** Waits no more, and gives the link 3 s to be heard. */
		nudge() {
			if (phase === "waiting") wait(0);
			if (phase === "open" && send("ping")) link.heard = Math.min(link.heard, now + 3_000 - link.silence);
		},
		close: stop,
	};
	function handle(time, input, value) {
		now = time;
		if (phase !== "stopped") inputs[input]?.(value);
		if (verified === received) out.proven();
		if (now >= deadline()) due();
	}
	const deadline = () => (phase === "open" ? Math.min(link.heard + link.silence, link.answerBy, link.askAt) : until);
	function due() {
		if (phase === "waiting") dial();
		else if (phase === "dialling") lost("no connection");
		else if (now >= link.askAt) {
			link.question = { id: send("ping"), asked: now };
			link.askAt = Infinity;
		} else lost(now >= link.answerBy ? "no answer" : "the server is silent");
	}
	function dial() {
		[phase, until] = wished.size ? ["dialling", now + 15_000] : ["idle", Infinity];
		if (wished.size) out.dial();
	}
	function wait(ms) {
		[phase, until] = ["waiting", Math.max(now + ms, notBefore)];
	}
	function send(type, data) {
		const id = String(++link.ids);
		out.send({ type, id, data });
		return id;
	}
	const oldest = () => [...link.asked.keys()][0];
	function ask(repositories, how) {
		const id = send("subscribe", { repositories, types, ...how });
		link.asked.set(id, how);
		return id;
	}
	/** `since` is worth a try. */
	const gapAllowed = () => (snapshot && !hasBegun ? "snapshot" : onGap);
	function startAt(cursor) {
		[received, verified, isUnproven] = [cursor, cursor, false];
		told.clear();
	}
	function bookmark(cursor) {
		if (cursor) out.bookmark((received = cursor));
	}

	/** They throw if something is missing. */
	const frames = {
		"task.created": event,
		"task.updated": event,
		"task.deleted": event,
		ping: sign,
		pong: sign,
		subscribed,
		welcome(_, { server, heartbeat_ms }) {
			link.server = server;
			link.silence = 1.5 * heartbeat_ms + 5_000;
		},
		snapshot({ cursor }, { first, last, tasks }) {
			const { state } = link;
			if (!state || first === !!state.tasks.length || (last && !cursor)) throw Error("a snapshot has a hole");
			for (const it of tasks) state.tasks.push(it);
			if (!last) return;
			link.state = null;
			const { accepted: repositories } = state;
			if (!repositories.every((it) => wished.has(it))) throw Error("a snapshot is not wanted");
			for (const it of repositories) owed.delete(it);
			if (received) [received, isUnproven] = [cursor, true];
			else startAt(cursor);
			tell("snapshot", { repositories, tasks: state.tasks, cursor }, cursor);
		},
		error({ id, error }, { code, retryable, retry_after_ms }) {
			const request = link.asked.get(id);
			if (!link.asked.delete(id) || (level(id) && !request.snapshot)) return;
			if (retryable) lost(`put off: ${error}`, retry_after_ms);
			else stop("refused", `refused: ${error}`, { word: code });
		},
	};
	function event(event, { task_id }) {
		const { cursor } = event;
		if (!link.live || !cursor || !task_id) throw Error("an event has no place");
		const isNew = !told.has(cursor) && received !== cursor;
		told.add((received = cursor));
		link.count++;
		if (!isNew) return;
		if (link.late) link.late.replayed++;
		tell("event", { event, cursor, replayed: !!link.late }, cursor);
	}
	function sign({ type, id, cursor }, { delivered, head }) {
		const { question, count } = link;
		if (type === "ping") send("pong");
		if (!link.live) return; // the position is not ours
		if ((delivered ?? count) !== count) throw Error(`${delivered} events were sent and ${count} came`);
		bookmark(cursor);
		if (delivered !== undefined && !link.late) {
			[verified, isUnproven] = [received, false];
			told.clear();
		}
		if (!id || question?.id !== id) return;
		link.askAt = question.asked + freshnessMs;
		if (cursor && cursor === head) tell("fresh", { behindMs: now - question.asked });
	}
	function subscribed({ id, cursor }, { mode, accepted, denied: no, head, reason }) {
		const isFirst = !link.live;
		const request = link.asked.get(id);
		if (isFirst && id !== oldest()) throw Error("an answer is missing");
		if (!link.asked.delete(id)) return;
		const { since } = request;
		// Not to be resumed is a gap, whatever it is called.
		const isGap = mode === "reset" || (since && mode !== "resumed" && accepted.length);
		if (isGap && gapAllowed() === "error") return stop("gap", `cannot go on: ${reason}`, { reason });
		judged(accepted, no);
		if (isFirst && !accepted.length) {
			// If no more was asked for there is no subscription.
			return link.asked.size || stop("denied", `not found: ${[...denied]}`, { denied: no });
		}
		const hasState = accepted.length && (request.snapshot || (isGap && gapAllowed() === "snapshot"));
		const resumed = !!since && !isGap;
		if (isFirst) {
			if (!cursor && !hasState && !resumed) throw Error("a beginning has no position");
			[link.live, link.answerBy, hasBegun, wasRefused] = [now, Infinity, true, false];
			if (freshnessMs) link.askAt = now;
			tell("connected", { resumed, server: link.server });
			if (!resumed) startAt(cursor);
			if (isGap) tell("gap", { reason, since, cursor }, cursor);
		}
		bookmark(cursor);
		level(id);
		if (hasState) {
			for (const it of accepted) wished.has(it) && owed.add(it);
			link.state = { accepted, tasks: [] };
		} else if (resumed) {
			// Answered when the connection is level.
			const sign = cursor && cursor === head ? id : (oldest() ?? ask([accepted[0]], {}));
			link.late = { id: sign, replayed: 0, awayMs: now - (awaySince ?? now) };
			level(id);
		}
	}
	function level(id) {
		if (link.late?.id !== id) return false;
		const { replayed, awayMs } = link.late;
		link.late = null;
		tell("caught_up", { replayed, awayMs });
		return true;
	}
	function judged(accepted, no) {
		const repositories = accepted.filter((it) => denied.delete(it));
		const news = no.filter((it) => !denied.has(it.repository));
		for (const it of no) denied.add(it.repository) && snapshot && owed.add(it.repository);
		if (repositories.length) tell("granted", { repositories });
		if (news.length) tell("denied", { denied: news });
	}

	function lost(reason, least = 0, isAtOnce = false) {
		hangUp();
		least = Math.min(least, 3_600_000);
		const ms = isAtOnce && limit === 500 ? 0 : Math.max(random() * limit, least);
		limit = Math.min(limit * 2, 30_000);
		notBefore = now + least;
		wait(ms);
		tell("interrupted", { reason, retryInMs: ms });
	}
	function hangUp(next) {
		out.hangUp();
		if (phase === "open" && link.live) {
			awaySince = now;
			if (now - link.live >= 30_000) limit = 500;
		}
		[phase, until] = [next, Infinity];
	}
	function stop(code, message, more) {
		hangUp("stopped");
		out.stop(code && new WatchError(code, message, more));
	}
	return { handle, deadline };
}
