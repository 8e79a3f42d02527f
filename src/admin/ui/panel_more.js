/*
 * Capabilities that have a place here but are not built: each card says what the proxy itself answers about it. One that
 * is there one day shows its answer as it is, until it gets a panel of its own.
 */
import { get } from "./api.js";
import { h, setText } from "./dom.js";
import { Part } from "./parts.js";

const CARDS = [
	["plugins", "Plugins", "//plugins", "WebAssembly plugins: which are loaded, their calls and errors."],
	["anomalies", "Anomalies", "//anomalies", "Unusual queries, logins and loads."],
	["edge-stats", "Edge", "//api/edge", "Caches at the edge and their invalidation."],
	["chaos", "Chaos", "//api/chaos", "Faults on purpose, to see what clients notice."],
	["shadow", "Shadow", "//api/shadow", "The same query on two servers, and what differs."],
	["replay", "Replay", "//api/replay", "The traffic of a time span once more, against another server."],
].map(([id, title, path, about]) => {
	const answer = h("pre", { tabindex: 0 }), part = new Part(answer);

	return { path, answer, part, element: h("div", { class: "card", id }, h("h2", {}, title), h("p", { class: "quiet" }, about), part.element) };
});

export const more = {
	id: "more",
	title: "More",
	about: "Prepared places. What is missing is the proxy's own answer, not a guess of this page.",
	every: 15000,

	build(section) {
		section.append(h("div", { class: "charts" }, CARDS.map((card) => card.element)));
	},

	async refresh(signal) {
		await Promise.all(CARDS.map((card) => card.part.load(async () =>
			setText(card.answer, JSON.stringify(await get(card.path, { signal }), null, 2)))));
	},
};
