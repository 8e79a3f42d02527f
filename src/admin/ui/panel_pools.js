/* Pools: server connections and who waits for them. Databases can be paused from here. */
import { get, post } from "./api.js";
import { h, milliseconds, number, setText } from "./dom.js";
import { actionButton, confirm, Part } from "./parts.js";
import { Table } from "./table.js";

const count = (title, name) => ({ title, numeric: true, value: (pool) => pool[name], show: (pool) => number(pool[name]) });

function state(pool) {
	if (pool.disabled)
		return { text: "disabled", tone: "bad" };
	if (pool.paused)
		return { text: "paused", tone: "warn" };
	if (pool.waiting > 0)
		return { text: "clients wait", tone: "warn" };
	return { text: "open", tone: "good" };
}

async function order(database, action) {
	const answer = await post(`/databases/${encodeURIComponent(database)}/${action}`);

	document.dispatchEvent(new Event("helios-refresh"));
	return `${database}: ${answer.status || action}`;
}

async function pause(pool) {
	const sure = await confirm({
		title: `Pause ${pool.database}?`, action: "Pause it",
		text: "Its clients wait from now on, in all its pools, and are served again when it is resumed.",
	});

	return sure ? order(pool.database, "pause") : null;
}

async function reconnect(pool) {
	const sure = await confirm({
		title: `Reconnect ${pool.database}?`, action: "Reconnect", risky: false,
		text: "Each of its server connections is replaced by a new one as soon as it is free.",
	});

	return sure ? order(pool.database, "reconnect") : null;
}

const table = new Table({
	id: "pools", label: "Pools", key: (pool) => [pool.database, pool.user, pool.node, pool.mode].join("\0"),
	empty: "No pools yet: they come into being with the first client.", sort: { column: 7, down: true },
	columns: [
		{ title: "Database", isName: true, value: (p) => p.database, show: (p) => p.database },
		{ title: "User", value: (p) => p.user, show: (p) => p.user },
		{ title: "Node", value: (p) => p.node, show: (p) => p.node ?? "–" },
		{ title: "Mode", value: (p) => p.mode, show: (p) => p.mode },
		{ title: "State", value: (p) => state(p).text, show: state },
		count("Active", "active"), count("Idle", "idle"), count("Waiting", "waiting"),
		{ title: "Longest wait", numeric: true, value: (p) => p.oldest_wait_ms,
			show: (p) => p.oldest_wait_ms ? milliseconds(p.oldest_wait_ms) : "–" },
		{
			title: "Actions of its database",
			make: (row) => h("div", { class: "buttons" },
				actionButton({ label: "Pause", right: "operate",
					work: () => row.item.paused ? order(row.item.database, "resume") : pause(row.item) }),
				actionButton({ label: "Reconnect", right: "operate", work: () => reconnect(row.item) })),
			update: (element, pool) => setText(element.firstChild, pool.paused ? "Resume" : "Pause"),
		},
		count("Opening", "opening"), count("Pinned", "pinned"), count("Limit", "max"), count("Active limit", "active_limit"),
		count("Clients", "clients"),
	],
});
const part = new Part(table.element);

export const pools = {
	id: "pools-and-waiting",
	title: "Pools",
	about: "Server connections by database, user and node, and the clients that wait for one.",
	every: 3000,

	build(section) {
		section.append(part.element);
	},

	refresh(signal) {
		return part.load(async () => table.update((await get("/pools", { signal })).items));
	},
};
