/*
 * Elements, and how values are written. Every text goes in as a text node: names that clients choose (users, applications,
 * statements) can be anything, and never become markup.
 */

function build(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes || {})) {
		if (value === undefined || value === null || value === false)
			continue;
		if (name.startsWith("on"))
			element.addEventListener(name.slice(2), value);
		else
			element.setAttribute(name, value === true ? "" : String(value));
	}
	element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
	return element;
}

export function h(tag, attributes, ...children) {
	return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
	return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/* Only where it differs: an unchanged page costs no layout, and a selection in it stays. */
export function setText(element, text) {
	if (element.textContent !== text)
		element.textContent = text;
}

export function pill(text, tone) {
	return h("span", { class: "pill " + (tone || "") }, text);
}

/* ---- how values are written; what is not known is a dash ---- */

const UNKNOWN = "–";
const missing = (value) => value === null || value === undefined || Number.isNaN(value);

export function number(value, digits = 0) {
	if (missing(value))
		return UNKNOWN;
	return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/* About three digits. */
export function short(value) {
	if (missing(value))
		return UNKNOWN;
	for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]])
		if (Math.abs(value) >= size)
			return number(value / (unit === "k" ? 1e3 : size), 1) + " " + unit;
	return number(value, Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}

export function bytes(value) {
	if (missing(value))
		return UNKNOWN;
	for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]])
		if (Math.abs(value) >= size)
			return number(value / size, 1) + " " + unit;
	return number(value) + " B";
}

export function milliseconds(value) {
	if (missing(value))
		return UNKNOWN;
	if (value < 1000)
		return number(value, value < 10 ? 2 : value < 100 ? 1 : 0) + " ms";
	return duration(value / 1000);
}

export function duration(seconds) {
	if (missing(seconds))
		return UNKNOWN;
	if (seconds < 60)
		return number(seconds, seconds < 10 ? 1 : 0) + " s";
	const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
	if (hours === 0)
		return `${minutes} min ${Math.floor(seconds % 60)} s`;
	if (days === 0)
		return `${hours} h ${minutes % 60} min`;
	return `${days} d ${hours % 24} h`;
}

export function timeOfDay(time) {
	const date = new Date(time);

	return missing(time) || Number.isNaN(date.getTime()) ? UNKNOWN : date.toLocaleTimeString("en", { hour12: false });
}

export function text(value) {
	return missing(value) || value === "" ? UNKNOWN : String(value);
}
