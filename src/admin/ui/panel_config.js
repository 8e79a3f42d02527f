/* The configuration in effect, where each value comes from, and the reload. */
import { get, post } from "./api.js";
import { h, number, setText } from "./dom.js";
import { actionButton, confirm, field, Part } from "./parts.js";
import { Table } from "./table.js";

const write = (value) => value === null || value === undefined ? "–" : typeof value === "object" || value === "" ? JSON.stringify(value) :
	String(value);

/* What runs, and what the file says where that waits for a restart. */
function valueOf(item) {
	const waits = item.pending !== null && item.pending !== undefined;

	return write(item.value) + (waits ? ` (${write(item.pending)} after a restart)` : "");
}

const table = new Table({
	id: "config", label: "Configuration", key: (item) => item.key, empty: "No key fits.",
	columns: [
		{
			title: "Key", isName: true, value: (c) => c.key,
			make: (row) => h("div", {}, row.item.key, h("div", { class: "about" }, row.item.help ?? "")),
		},
		{ title: "Value", show: valueOf, classes: "medium" },
		{ title: "From", value: (c) => c.origin, show: (c) => ({ text: c.origin + (c.line ? `, line ${c.line}` : ""),
			tone: c.origin === "default" ? "none" : "" }) },
		{ title: "Default", show: (c) => write(c.default), classes: "medium" },
		{ title: "A change needs", value: (c) => c.reload, show: (c) => c.reload },
	],
});
const search = h("input", { type: "search", id: "config-search", oninput: filter, "data-search": true, autocomplete: "off" });
const onlySet = h("input", { type: "checkbox", id: "config-set", onchange: filter });
const total = h("p", { class: "quiet", role: "status" });
const outcome = h("div", { id: "reload-result", "aria-live": "polite" });
const part = new Part(total, table.element);

let items = [];

function filter() {
	const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
	const fits = (item) => {
		const hay = `${item.key} ${write(item.value)} ${item.help}`.toLowerCase();

		return (!onlySet.checked || item.origin !== "default") && words.every((word) => hay.includes(word));
	};
	const found = items.filter(fits);

	table.update(found);
	setText(total, `${number(found.length)} of ${number(items.length)} keys`);
}

const list = (title, keys) => keys?.length ?
	[h("p", {}, title), h("ul", { class: "keys-list" }, keys.map((key) => h("li", {}, h("code", {}, write(key?.key ?? key)))))] : [];

async function reload() {
	const sure = await confirm({
		title: "Reload the configuration?", action: "Reload", risky: false,
		text: "The file is read again. If something in it is wrong, the old configuration stays.",
	});

	if (!sure)
		return null;
	const answer = await post("/reload");

	outcome.replaceChildren(h("div", { class: "notice good" }, h("p", {}, String(answer.status)),
		...(answer.changed ? list("Changed:", answer.changed) : []),
		...(answer.changed?.length === 0 ? [h("p", {}, "Nothing has changed.")] : []),
		...list("Need a restart:", answer.needs_restart)));
	document.dispatchEvent(new Event("helios-refresh"));
	return null;
}

export const configuration = {
	id: "configuration",
	title: "Configuration",
	about: "Values in effect; secrets are hidden.",
	every: 15000,

	build(section) {
		section.append(h("div", { class: "card fields", role: "search" }, field("search", search),
			field("only what is set", onlySet, "inline"),
			actionButton({ label: "Reload", right: "admin", classes: "main", id: "reload", work: reload })), outcome, part.element);
	},

	refresh(signal) {
		return part.load(async () => {
			items = (await get("/config", { signal })).items;
			filter();
		});
	},
};
