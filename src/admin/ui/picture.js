/*
 * The nodes as a picture: a box each, an arrow from where a node receives to it. Side by side where there is room, else
 * below one another and indented. All of it stands in the table, too.
 */
import { bytes, milliseconds, number, svg } from "./dom.js";

const BOX_WIDTH = 230, BOX_HEIGHT = 106, GAP_X = 110, GAP_Y = 22, MARGIN = 6, INDENT = 26;

export function troubleOf(node) {
	if (!node.enabled)
		return { text: "disabled", tone: "warn" };
	if (node.draining)
		return { text: "draining", tone: "warn" };
	if (!node.healthy)
		return { text: "unhealthy", tone: "bad" };
	return { text: "healthy", tone: "good" };
}

export function lagOf(node) {
	if (node.is_primary)
		return "";
	const parts = [];

	if (node.lag_bytes !== null && node.lag_bytes !== undefined)
		parts.push(bytes(node.lag_bytes));
	if (node.lag_ms !== null && node.lag_ms !== undefined)
		parts.push(milliseconds(node.lag_ms));
	return parts.length ? parts.join(", ") : "unknown";
}

export function circuitOf(node) {
	const state = node.circuit?.state;

	return state ? { text: state, tone: state === "closed" ? "good" : state === "open" ? "bad" : "warn" } :
		{ text: "off", tone: "none" };
}

/* Roots first; a ring (which could only be a moment's) ends at the second visit. */
function arrange(nodes) {
	const names = new Set(nodes.map((node) => node.name)), placed = [], seen = new Set();
	const place = (node, depth) => {
		if (seen.has(node.name))
			return;
		seen.add(node.name);
		placed.push({ node, depth });
		nodes.filter((other) => other.receives_from === node.name).forEach((other) => place(other, depth + 1));
	};

	nodes.filter((node) => node.is_primary).forEach((node) => place(node, 0));
	nodes.filter((node) => !names.has(node.receives_from)).forEach((node) => place(node, 0));
	nodes.forEach((node) => place(node, 0));
	return placed;
}

function inColumns(placed) {
	const rows = [];

	for (const each of placed) {
		each.row = rows[each.depth] || 0;
		/* A child is not above its parent's row. */
		const parent = placed.find((other) => other.node.name === each.node.receives_from && other.row !== undefined);
		if (parent && parent !== each)
			each.row = Math.max(each.row, parent.row);
		rows[each.depth] = each.row + 1;
		each.x = MARGIN + each.depth * (BOX_WIDTH + GAP_X);
		each.y = MARGIN + each.row * (BOX_HEIGHT + GAP_Y);
		each.width = BOX_WIDTH;
	}
}

function inLines(placed, width) {
	placed.forEach((each, index) => {
		each.x = MARGIN + each.depth * INDENT;
		each.y = MARGIN + index * (BOX_HEIGHT + GAP_Y);
		each.width = Math.min(BOX_WIDTH + 60, width - each.x - MARGIN);
	});
}

function fit(text, width, size) {
	const most = Math.max(4, Math.floor(width / (size * 0.56)));

	return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

function box({ node, x, y, width }) {
	const trouble = troubleOf(node), circuit = circuitOf(node), inner = width - 24;
	const line = (row, classes, text, size = 12.5) =>
		svg("text", { x: x + 12, y: y + 22 + row * 19, class: classes }, fit(text, inner, size));
	const role = (node.is_primary ? "primary" : node.role || "role unknown") + (node.zone ? ` · ${node.zone}` : "");

	return [
		svg("rect", { x, y, width, height: BOX_HEIGHT, rx: 9,
			class: ["node-box", node.is_primary && "primary", trouble.tone].filter(Boolean).join(" ") }),
		line(0, "node-name", node.name, 15),
		line(1, "node-role", role),
		line(2, "node-text " + trouble.tone, `${{ good: "✓", warn: "!", bad: "✗" }[trouble.tone]} ${trouble.text}, ` +
			(circuit.text === "off" ? "no breaker" : `breaker ${circuit.text}`)),
		line(3, "node-text", `${number(node.links)} server connections`),
		line(4, "node-text", node.is_primary ? node.address : `lag ${lagOf(node)}`),
	];
}

function arrow(from, to, beside) {
	const end = { x: to.x - 2, y: to.y + BOX_HEIGHT / 2 };
	const path = beside ?
		`M${from.x + from.width} ${from.y + BOX_HEIGHT / 2}C${from.x + from.width + GAP_X / 2} ${from.y + BOX_HEIGHT / 2} ` +
			`${end.x - GAP_X / 2} ${end.y} ${end.x - 8} ${end.y}` :
		`M${from.x + 12} ${from.y + BOX_HEIGHT}V${end.y}H${end.x - 8}`;

	return [svg("path", { d: path, class: "arrow" }),
		svg("path", { d: `M${end.x} ${end.y}l-9 -5v10z`, class: "arrow-head" })];
}

function describe(node) {
	return `${node.name}: ${node.is_primary ? "primary" : node.role}, ${troubleOf(node).text}` +
		(node.receives_from ? `, receives from ${node.receives_from}, lag ${lagOf(node)}` : "");
}

export function draw(drawing, nodes) {
	const width = drawing.clientWidth || 320, placed = arrange(nodes);
	const depth = Math.max(0, ...placed.map((each) => each.depth)) + 1;
	const beside = depth * BOX_WIDTH + (depth - 1) * GAP_X + 2 * MARGIN <= width;

	if (beside)
		inColumns(placed);
	else
		inLines(placed, width);
	drawing.setAttribute("height", Math.max(0, ...placed.map((each) => each.y)) + BOX_HEIGHT + MARGIN);
	drawing.setAttribute("aria-label", nodes.map(describe).join("; ") || "no nodes");
	drawing.replaceChildren(
		...placed.flatMap((each) => {
			const from = placed.find((other) => other.node.name === each.node.receives_from);

			return from && from !== each ? arrow(from, each, beside) : [];
		}),
		...placed.flatMap(box));
}
