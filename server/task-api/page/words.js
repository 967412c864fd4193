// Texts for people, in the words of the terminal's board. Pure.

/** What would hide, or turn its neighbours around, is written as `\u{202e}`. */
export const visible = (text) =>
	text.replace(/(?![\ufe00-\ufe0f])[\p{Cc}\p{Zl}\p{Zp}\p{DI}\ufff9-\ufffb]/gu, (c) => `\\u{${c.codePointAt().toString(16)}}`);

export const word = (text) => visible(text.replaceAll("_", " "));
export const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

/** In quotes unless it is one word, so that it cannot pass for more. */
export function value(of) {
	if (of === undefined) return "(truncated)";
	if (of === null) return "–";
	if (Array.isArray(of)) return `[${of.map(value).join(", ")}]`;
	const text = visible(`${of}`);
	return /^[\p{L}\p{N}_\-./@:+~#]+$/u.test(text) ? text : `"${text.replaceAll('"', '\\"')}"`;
}

/** `0.8 s`, `41 s`, `3 min 5 s` */
export function span(ms) {
	const s = Math.round(ms / 1000);
	if (ms < 9950) return `${Math.max(ms / 1000, 0.1).toFixed(1)} s`;
	return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
}

export function ago(ms) {
	const s = Math.floor(ms / 1000);
	const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([length]) => s >= length) ?? [];
	return unit ? `${Math.floor(s / length)} ${unit} ago` : "just now";
}
