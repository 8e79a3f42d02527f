/* How it goes: figures of this moment, and charts of the last minutes. */
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { bytes, h, milliseconds, number, setText, short } from "./dom.js";
import { field, Part } from "./parts.js";

const MOST_SECONDS = 900;
const ms = (value) => milliseconds(value);

/* Name, columns of the history, and how they are written. */
const CHARTS = [
	{ title: "Queries a second", columns: ["queries_per_second", "transactions_per_second"], names: ["queries", "transactions"], format: short },
	{ title: "Latency of queries", columns: ["query_p50_ms", "query_p95_ms", "query_p99_ms"], names: ["p50", "p95", "p99"], format: ms },
	{ title: "Errors a second", columns: ["errors_per_second"], names: ["errors"], format: short, colors: [2] },
	{ title: "Server connections", columns: ["links_active", "links_idle"], names: ["active", "idle"], format: short },
	{ title: "Clients", columns: ["clients", "clients_waiting"], names: ["connected", "waiting"], format: short },
	{ title: "Bytes a second", columns: ["received_bytes_per_second", "sent_bytes_per_second"], names: ["from clients", "to clients"], format: bytes },
];
const DASHES = [null, "6 3", "2 3"];

class Tile {
	constructor(title, show, tone) {
		this.show = show;
		this.tone = tone || (() => "");
		this.value = h("dd", {}, "–");
		this.element = h("div", { class: "tile" }, h("dt", {}, title), this.value);
	}

	update(now) {
		setText(this.value, this.show(now));
		this.value.className = this.tone(now);
	}
}

const traffic = [
	new Tile("Queries / s", (now) => short(now.queries_per_second)),
	new Tile("Transactions / s", (now) => short(now.transactions_per_second)),
	new Tile("Latency p50", (now) => ms(now.query_p50_ms)),
	new Tile("Latency p95", (now) => ms(now.query_p95_ms)),
	new Tile("Latency p99", (now) => ms(now.query_p99_ms)),
	new Tile("Errors / s", (now) => short(now.errors_per_second), (now) => now.errors_per_second > 0 ? "warn" : ""),
	new Tile("Errors of queries", (now) => now.queries_per_second > 0 ? number(now.errors_per_second / now.queries_per_second * 100, 2) + " %" : "–"),
];
const cluster = [
	new Tile("Nodes healthy", (now) => now.nodes_total === undefined ? "–" : `${now.nodes_healthy} of ${now.nodes_total}`,
		(now) => now.nodes_healthy < now.nodes_total ? "bad" : ""),
	new Tile("Clients", (now) => number(now.clients)),
	new Tile("Clients waiting", (now) => number(now.clients_waiting), (now) => now.clients_waiting > 0 ? "warn" : ""),
	new Tile("Server connections", (now) => number(now.links)),
	new Tile("of them busy", (now) => number(now.links_active)),
	new Tile("Pools", (now) => number(now.pools)),
];

const charts = CHARTS.map(({ title, names, format, colors }) => new Chart({
	title, format, seconds: 300,
	series: names.map((name, index) => ({ name, color: colors?.[index] || index + 1, dash: DASHES[index] })),
}));
const figures = new Part(h("dl", { class: "tiles", id: "metrics-cluster", "aria-label": "Cluster" }, cluster.map((t) => t.element)));
const span = h("select", { id: "span", onchange: () => {
	charts.forEach((chart) => chart.show(Number(span.value)));
} }, [[60, "a minute"], [300, "five minutes"], [900, "fifteen minutes"]].map(([seconds, name]) =>
	h("option", { value: seconds, selected: seconds === 300 }, name)));
const history = new Part(
	h("dl", { class: "tiles", id: "metrics-traffic", "aria-label": "Traffic" }, traffic.map((t) => t.element)),
	h("div", { class: "fields" }, field("Charts of the last", span, "inline")),
	h("div", { class: "charts" }, charts.map((chart) => chart.element)));

let samples = []; /* of the last MOST_SECONDS: [milliseconds, { column: value }] */
let loaded = -Infinity; /* when, by this machine's clock: the proxy's may go otherwise */

/* Only what came since the last time is asked for. */
function secondsWanted() {
	return Math.min(MOST_SECONDS, Math.ceil((performance.now() - loaded) / 1000) + 3);
}

function take(answer) {
	const at = answer.columns.indexOf("at_seconds");
	const newestOf = (list) => list.length ? list[list.length - 1][0] : 0;
	const fresh = answer.rows.map((row) => [
		row[at] * 1000,
		Object.fromEntries(answer.columns.map((name, index) => [name, row[index]])),
	]);

	if (fresh.length && newestOf(fresh) < newestOf(samples))
		samples = []; /* the proxy's clock was set back */
	const known = newestOf(samples);
	samples = samples.concat(fresh.filter((sample) => sample[0] > known));
	samples = samples.filter((sample) => sample[0] >= newestOf(samples) - MOST_SECONDS * 1000);
}

async function loadHistory(signal) {
	const began = performance.now();

	take(await get("/stats/history?seconds=" + secondsWanted(), { signal }));
	loaded = began;
	const now = samples.length ? samples[samples.length - 1][1] : {};

	traffic.forEach((tile) => tile.update(now));
	charts.forEach((chart, index) =>
		chart.update(samples.map(([at, row]) => [at, ...CHARTS[index].columns.map((name) => row[name])])));
	return now;
}

export const overview = {
	id: "overview",
	title: "Overview",
	about: "How it goes, by the second.",
	every: 2000,

	build(section) {
		section.append(figures.element, history.element);
	},

	async refresh(signal) {
		let now = {};

		await Promise.all([
			history.load(async () => {
				now = await loadHistory(signal);
			}),
			figures.load(async () => {
				const status = await get("/status", { signal });

				cluster.forEach((tile) => tile.update({ ...now, ...status }));
			}),
		]);
	},
};
