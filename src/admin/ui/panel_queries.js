/* Queries: what runs right now, and what has cost most by the proxy's statistics. */
import { del, get, query } from "./api.js";
import { duration, h, milliseconds, number, setText, short, text } from "./dom.js";
import { actionButton, confirm, copyButton, debounce, field, Part, showFacts } from "./parts.js";
import { running } from "./panel_sessions.js";
import { Table } from "./table.js";

const EVERY_MS = 5000; /* what was counted changes more slowly than what runs, and is more to ask for */
const LIMITS = [25, 50, 100, 200];
const TONES = { schema: "warn" };
const CLASSES = ["retrieval", "storage", "schema", "transaction", "utility", "unknown"];
const ORDERS = { total_time: "total time", mean_time: "mean time", p99_time: "p99", calls: "calls", rows: "rows", errors: "errors" };
const ON = "[analytics]\nenabled = true";

let asked = 0; /* when; 0: at once */

function again() {
	asked = 0;
	document.dispatchEvent(new Event("helios-refresh"));
}

/* ---- one entry ---- */

const ago = (time) => time ? duration(Math.max(0, (Date.now() - Date.parse(time)) / 1000)) + " ago" : "–";

const when = (time) => time ? `${time.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC")} (${ago(time)})` : "–";

function showEntry(entry) {
	return showFacts("Query " + entry.fingerprint, [
		h("pre", { class: "statement", tabindex: 0 }, entry.query),
		entry.query_is_cut ? h("p", { class: "notice warn" }, "The text goes on: only its beginning is kept.") : null,
		h("div", { class: "buttons" }, copyButton("Copy the text", () => entry.query),
			copyButton("Copy the fingerprint", () => entry.fingerprint)),
	], [
		["Class", entry.class], ["Database", entry.database], ["User", entry.user],
		["Calls", `${number(entry.calls)}, ${number(entry.errors)} of them failed`],
		["Rows", `${number(entry.rows)}, ${entry.calls ? short(entry.rows / entry.calls) : "–"} a call`],
		["Time", `${milliseconds(entry.total_ms)}, ${milliseconds(entry.server_ms)} of it at the server`],
		["One call", `mean ${milliseconds(entry.mean_ms)}, least ${milliseconds(entry.min_ms)}, most ${milliseconds(entry.max_ms)}`],
		["Percentiles", `p50 ${milliseconds(entry.p50_ms)}, p95 ${milliseconds(entry.p95_ms)}, p99 ${milliseconds(entry.p99_ms)}`],
		["Repeated", `${number(entry.repeated)} calls in a loop of a client`],
		["First seen", when(entry.first_seen)], ["Last seen", when(entry.last_seen)],
	]);
}

/* ---- the list ---- */

let whole = 0; /* ms of all entries that fit */

const share = (entry) => whole > 0 ? 100 * entry.total_ms / whole : null;
const percent = (value) => value === null ? "–" : value < 0.1 ? "< 0.1 %" : number(value, value < 10 ? 1 : 0) + " %";
const time = (title, name, order) => ({ title, numeric: true, order, value: (q) => q[name], show: (q) => milliseconds(q[name]) });
const count = (title, name, order) => ({ title, numeric: true, order, value: (q) => q[name], show: (q) => number(q[name]) });

const table = new Table({
	id: "top-queries", label: "Top queries", key: (q) => [q.fingerprint, q.database, q.user].join("\0"),
	empty: "No query fits.", sort: { column: 1, down: true }, ordered,
	columns: [
		{
			title: "Query", isName: true, classes: "query",
			make: (row) => h("button", { type: "button", class: "text", title: "All about it", onclick: () => showEntry(row.item) }),
			update: (element, q) => setText(element, q.query),
		},
		time("Total time", "total_ms", "total_time"),
		{ title: "Share", numeric: true, show: (q) => percent(share(q)) },
		count("Calls", "calls", "calls"), time("Mean", "mean_ms", "mean_time"), time("p99", "p99_ms", "p99_time"),
		{
			title: "Errors", numeric: true, order: "errors", value: (q) => q.errors,
			show: (q) => q.errors ? { text: number(q.errors), tone: "bad" } : { text: "0", tone: "none" },
		},
		count("Rows", "rows", "rows"),
		{ title: "In loops", numeric: true, show: (q) => q.repeated ? percent(100 * q.repeated / q.calls) : "–" },
		{ title: "Class", show: (q) => ({ text: q.class, tone: TONES[q.class] }) },
		{ title: "Database", show: (q) => text(q.database) }, { title: "User", show: (q) => text(q.user), wide: true },
		{ title: "Last seen", numeric: true, show: (q) => ago(q.last_seen) },
		{ title: "Text", make: (row) => copyButton("Copy", () => row.item.query) },
	],
});

const options = (values, chosen) => values.map(([value, label]) => h("option", { value, selected: value === chosen }, label));
const order = h("select", { id: "query-order", onchange: again }, options(Object.entries(ORDERS), "total_time"));
const limit = h("select", { id: "query-limit", onchange: again }, options(LIMITS.map((n) => [String(n), String(n)]), "50"));
const filters = Object.fromEntries(["query", "database", "user"].map((each) => [each,
	h("input", { type: "search", id: "query-" + each, oninput: debounce(again), autocomplete: "off", spellcheck: "false",
		"data-search": each === "query" })]));

filters.class = h("select", { id: "query-class", onchange: again },
	options([["", "any"], ...CLASSES.map((name) => [name, name])], ""));

function ordered(column) {
	order.value = column.order;
	again();
}

async function beginAnew() {
	const sure = await confirm({
		title: "Begin anew?", action: "Begin anew",
		text: "All that was counted of queries so far is forgotten, for everybody who looks at it.",
	});

	if (!sure)
		return null;
	await del("/queries");
	again();
	return "Query statistics begin anew.";
}

const summary = h("p", { class: "quiet", role: "status" });
const counted = new Part(table.element);
const off = h("div", { class: "notice", id: "queries-off", hidden: true },
	h("p", {}, "Query statistics are off. To turn them on, without a restart and without closing a connection: in ",
		h("code", {}, "proxy.toml"), ","),
	h("pre", {}, ON),
	h("p", {}, "and then ", h("a", { href: "#configuration" }, "reload"), ". What they cost is said in docs/query-statistics.md."),
	h("div", { class: "buttons" }, copyButton("Copy", () => ON + "\n")));
const reset = actionButton({ label: "Begin anew", right: "operate", classes: "small risky", id: "queries-reset",
	title: "Forgets what was counted so far", work: beginAnew });
const controls = h("div", { class: "card fields", role: "search" },
	field("text or fingerprint", filters.query), field("database", filters.database), field("user", filters.user),
	field("class", filters.class), field("sorted by", order), field("at most", limit));

function show(answer) {
	const isOff = !answer.enabled;

	off.hidden = !isOff;
	controls.hidden = reset.hidden = summary.hidden = table.element.hidden = isOff;
	whole = answer.total_ms;
	table.sort = { column: table.columns.findIndex((column) => column.order === order.value), down: true };
	table.update(answer.items);
	setText(summary, [
		`${number(answer.total)} kinds of queries` + (answer.total > answer.items.length ? `, ${answer.items.length} are shown` : ""),
		`counted since ${when(answer.since)}`,
		answer.workers_late ? `${number(answer.workers_late)} workers did not answer in time: what they counted is missing` : "",
		answer.evicted ? `${number(answer.evicted)} were forgotten, the longest unseen first: see [analytics] max_fingerprints` : "",
	].filter(Boolean).join(" · "));
}

async function refreshTop(signal) {
	if (Date.now() - asked < EVERY_MS)
		return;
	await counted.load(async () => {
		const wanted = Object.fromEntries(Object.entries(filters).map(([key, input]) => [key, input.value.trim()]));

		show(await get("/queries" + query({ ...wanted, sort: order.value, limit: limit.value }), { signal }));
		asked = Date.now();
	});
}

export const queries = {
	id: "running-queries",
	title: "Queries",
	about: "What runs or waits right now, the longest first; and below, what has cost most.",
	every: 2000,

	build(section) {
		section.append(h("h2", {}, "Running"), running.element, h("div", { class: "heading" }, h("h2", {}, "Top queries"), reset), off, controls, summary, counted.element);
	},

	async refresh(signal) {
		await Promise.all([running.refresh(signal), refreshTop(signal)]);
	},
};
