/* Clients: finding them, cancelling and closing them; and the list of what runs right now, for the panel of queries. */
import { del, get, post, query } from "./api.js";
import { h, milliseconds, number, setText, text } from "./dom.js";
import { actionButton, confirm, debounce, field, Part } from "./parts.js";
import { Table } from "./table.js";

const LIMIT = 200;
const refresh = () => document.dispatchEvent(new Event("helios-refresh"));
const name = (session) => `${session.pid} (${session.user} on ${session.database}, ${session.address})`;

async function cancel(session) {
	const sure = await confirm({
		title: "Cancel its query?", action: "Cancel the query",
		text: `What session ${name(session)} runs now ends with an error; the session stays.`,
	});

	if (!sure)
		return null;
	await post(`/sessions/${session.pid}/cancel`);
	refresh();
	return `Session ${session.pid}: cancel sent.`;
}

async function close(session) {
	const sure = await confirm({
		title: "Close this session?", action: "Close the session",
		text: `Session ${name(session)} loses its connection; what it has not committed is rolled back.`,
	});

	if (!sure)
		return null;
	await del(`/sessions/${session.pid}`);
	refresh();
	return `Session ${session.pid} is closed.`;
}

const actions = {
	title: "Actions",
	make: (row) => h("div", { class: "buttons" },
		actionButton({ label: "Cancel", right: "operate", title: "Ends the query, not the session", work: () => cancel(row.item) }),
		actionButton({ label: "Kill", right: "operate", classes: "small risky", title: "Closes the session",
			work: () => close(row.item) })),
};
/* How long its query runs, else how long it has been as it is. */
const since = (session) => session.query_ms ?? session.state_ms;
const TONES = { active: "good", waiting: "warn" };
const columns = {
	pid: { title: "PID", isName: true, numeric: true, value: (s) => s.pid, show: (s) => String(s.pid) },
	database: { title: "Database", value: (s) => s.database, show: (s) => text(s.database) },
	user: { title: "User", value: (s) => s.user, show: (s) => text(s.user), wide: true },
	application: { title: "Application", value: (s) => s.application, show: (s) => text(s.application), wide: true },
	address: { title: "Address", value: (s) => s.address, show: (s) => text(s.address) },
	tls: { title: "TLS", value: (s) => s.tls, show: (s) => text(s.tls) },
	state: { title: "State", value: (s) => s.state, show: (s) => ({ text: s.state + (s.pinned ? ", pinned" : ""), tone: TONES[s.state] }) },
	since: { title: "For", numeric: true, value: since, show: (s) => milliseconds(since(s)) },
	connected: { title: "Connected", numeric: true, value: (s) => s.connected_ms, show: (s) => milliseconds(s.connected_ms) },
	node: { title: "Node", value: (s) => s.node, show: (s) => text(s.node) },
	link: { title: "Server PID", numeric: true, value: (s) => s.link, show: (s) => s.link === null ? "–" : String(s.link) },
	statement: { title: "Statement", show: (s) => text(s.statement), wide: true },
};

/* ---- all sessions ---- */

const table = new Table({
	id: "sessions", label: "Sessions", key: (session) => session.pid, empty: "No session fits.",
	columns: [columns.pid, columns.database, columns.user, columns.application, columns.address, columns.state, columns.since,
		actions, columns.node, columns.link, columns.connected, columns.tls, columns.statement],
});
const filters = Object.fromEntries(["database", "user", "application", "address", "query"].map((each) => [each,
	h("input", { type: "search", id: "session-" + each, oninput: debounce(refresh), autocomplete: "off",
		"data-search": each === "database" })]));
filters.state = h("select", { id: "session-state", onchange: refresh },
	["", "active", "waiting", "idle"].map((each) => h("option", { value: each }, each || "any")));
const total = h("p", { class: "quiet", role: "status" });
const part = new Part(total, table.element);

export const sessions = {
	id: "client-sessions",
	title: "Sessions",
	about: "Clients of the proxy.",
	every: 3000,

	build(section) {
		section.append(h("div", { class: "card fields", role: "search" },
			["database", "user", "application", "address"].map((each) => field(each, filters[each])),
			field("state", filters.state), field("text of the statement", filters.query)), part.element);
	},

	refresh(signal) {
		return part.load(async () => {
			const wanted = Object.fromEntries(Object.entries(filters).map(([key, input]) => [key, input.value.trim()]));
			const answer = await get("/sessions" + query({ ...wanted, limit: LIMIT }), { signal });

			table.update(answer.items);
			setText(total, answer.total > answer.items.length ?
				`${number(answer.total)} sessions fit; ${answer.items.length} are shown.` : `${number(answer.total)} sessions`);
		});
	},
};

/* ---- what runs ---- */

const runningTable = new Table({
	id: "running", label: "Running statements", key: (session) => session.pid, empty: "Nothing runs at this moment.",
	columns: [columns.since, columns.statement, columns.database, columns.user, columns.application, columns.node, columns.state,
		actions, { ...columns.pid, isName: false }],
});
const runningPart = new Part(runningTable.element);

export const running = {
	element: runningPart.element,

	refresh(signal) {
		return runningPart.load(async () => {
			const lists = await Promise.all(["active", "waiting"].map((state) => get("/sessions" + query({ state, limit: LIMIT }), { signal })));

			runningTable.update(lists.flatMap((list) => list.items).sort((a, b) => since(b) - since(a)));
		});
	},
};
