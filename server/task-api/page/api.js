// Requests to the server, and who makes them.

import { matches } from "./state.js";

const TOKEN = "taskwatch.token";
export const token = () => sessionStorage.getItem(TOKEN) || undefined;
export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

/** Throws, with a `status` if it was refused. What has a `key` is done once. */
export async function ask(method, path, { body, version, key } = {}) {
	const headers = Object.entries({
		authorization: token() && `Bearer ${token()}`,
		"content-type": body && "application/json",
		"if-match": version && `"v${version}"`,
		"idempotency-key": key,
	}).filter(([, value]) => value);
	const answer = await fetch(path, { method, headers, body: JSON.stringify(body), cache: "no-store" }).catch(() => {
		throw Error("the server cannot be reached");
	});
	const value = await answer.json().catch(() => ({}));
	if (answer.ok) return value;
	const { status } = answer;
	throw Object.assign(Error(value.detail ?? `the server answers ${status}`), { status });
}

let me;

export const whoAmI = async () => (me = await ask("GET", "/api/v1/me"));

/** Why tasks of a repository, or any, may not be changed. */
export function readOnly(name) {
	if (!me || me.write.some((pattern) => !name || matches(pattern, name))) return "";
	return `Read-only: the token of ${me.subject} may not change ${name || "anything"}.`;
}
