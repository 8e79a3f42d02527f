/* The nodes: the picture, the table, and taking one out of service. */
import { get, post } from "./api.js";
import { h, milliseconds, number, setText, svg, text, timeOfDay } from "./dom.js";
import { actionButton, confirm, Part } from "./parts.js";
import { circuitOf, draw, lagOf, troubleOf } from "./picture.js";
import { Table } from "./table.js";

const changed = () => document.dispatchEvent(new Event("helios-refresh"));

async function change(node, action, force) {
	const answer = await post(`/nodes/${encodeURIComponent(node.name)}/${action}${force ? "?force=true" : ""}`);

	changed();
	return `${node.name}: ${answer.status || action}`;
}

/* What takes a node away asks first, the primary twice as clearly. */
async function takeAway(node, action) {
	const what = action === "drain" ?
		"Nothing new begins there, and its server connections leave as they become free." :
		"It is not used until it is enabled again, whatever the configuration says; its server connections leave.";
	const sure = await confirm({
		title: `${action === "drain" ? "Drain" : "Disable"} ${node.name}?`,
		text: what + (node.is_primary ? " IT IS THE PRIMARY: writes have nowhere to go while it is out." : ""),
		action: action === "drain" ? "Drain it" : "Disable it",
	});

	return sure ? change(node, action, node.is_primary) : null;
}

function actions(row) {
	const button = (label, work) => actionButton({ label, right: "operate", work });

	return h("div", { class: "buttons" },
		button("Drain", () => row.item.draining ? change(row.item, "undrain") : takeAway(row.item, "drain")),
		button("Disable", () => row.item.enabled ? takeAway(row.item, "disable") : change(row.item, "enable")));
}

function updateActions(element, node) {
	const [drain, disable] = element.children;

	drain.textContent = node.draining ? "Undrain" : "Drain";
	disable.textContent = node.enabled ? "Disable" : "Enable";
}

const table = new Table({
	id: "nodes", label: "Nodes", key: (node) => node.name, empty: "No nodes are configured.",
	columns: [
		{ title: "Name", isName: true, value: (n) => n.name, show: (n) => n.name },
		{ title: "Address", value: (n) => n.address, show: (n) => n.address },
		{ title: "Role", value: (n) => n.role, show: (n) => text(n.is_primary ? "primary" : n.role) },
		{ title: "State", value: (n) => troubleOf(n).text, show: troubleOf },
		{ title: "Breaker", value: (n) => circuitOf(n).text, show: circuitOf },
		{ title: "Lag", value: (n) => n.lag_bytes, show: (n) => lagOf(n) || "–" },
		{ title: "Latency", numeric: true, value: (n) => n.latency_ms, show: (n) => milliseconds(n.latency_ms) },
		{ title: "Links", numeric: true, value: (n) => n.links, show: (n) => number(n.links) },
		{ title: "Weight", numeric: true, value: (n) => n.weight, show: (n) => number(n.weight) },
		{ title: "Zone", value: (n) => n.zone, show: (n) => text(n.zone) },
		{ title: "Checked", show: (n) => timeOfDay(n.last_check_at) },
		{ title: "Actions", make: actions, update: updateActions },
		{ title: "Last error", wide: true, show: (n) => text(n.last_error) },
	],
});
const drawing = svg("svg", { role: "img" });
const facts = h("p", { class: "quiet" });
const picture = h("div", { class: "card picture", id: "topology" }, drawing, facts);
const changes = h("ol", { class: "flow", id: "topology-history" });
const changesCard = h("div", { hidden: true }, h("h2", {}, "What changed"), changes);
const part = new Part(picture, table.element, changesCard);

let shown = [];

/* Where writes go, and what has happened to the cluster since the start, the newest first. */
function tell(topology) {
	const sentences = [
		topology.primary ? `The primary is ${topology.primary}.` :
			`There is no primary${topology.no_primary_because ? `: ${topology.no_primary_because}` : ""}.`,
		topology.writes === "go" ? "" : `Writes are ${topology.writes}.`,
		topology.last_failover_at ? `Another one became the primary at ${timeOfDay(topology.last_failover_at)}.` : "",
	];
	const history = (topology.history || []).slice(0, 20);

	setText(facts, sentences.filter(Boolean).join(" "));
	changesCard.hidden = history.length === 0;
	changes.replaceChildren(...history.map((change) => h("li", {}, h("time", { datetime: change.at }, timeOfDay(change.at)),
		h("span", {}, text(change.node)), h("span", {}, [change.text || change.event, change.reason].filter(Boolean).join(": ")))));
}

export const nodes = {
	id: "nodes-and-topology",
	title: "Nodes",
	about: "Arrows show who receives from whom.",
	every: 3000,

	build(section) {
		section.append(part.element);
		new ResizeObserver(() => draw(drawing, shown)).observe(picture);
	},

	refresh(signal) {
		return part.load(async () => {
			const topology = await get("/topology", { signal });

			shown = topology.items;
			tell(topology);
			table.update(shown);
			draw(drawing, shown);
		});
	},
};
