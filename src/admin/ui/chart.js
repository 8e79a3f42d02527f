/*
 * Lines over time, as SVG. Series: { name, color: 1 to 4 of the style sheet, dash }; a sample is [milliseconds, value of
 * each series or null]. The pointer or the arrow keys show a moment's values; the newest ones stand in the legend.
 */
import { h, setText, svg, timeOfDay } from "./dom.js";

const GAP_MS = 5000; /* without a sample for so long, the line has a gap */
const HEIGHT = 150, LEFT = 60, RIGHT = 8, TOP = 8, BOTTOM = 20;

function niceCeiling(value) {
	if (!(value > 0))
		return 1;
	const unit = 10 ** Math.floor(Math.log10(value));

	return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.999);
}

export class Chart {
	constructor({ title, series, format, seconds }) {
		this.series = series;
		this.format = format;
		this.seconds = seconds;
		this.title = title;
		this.samples = [];
		this.cursor = null;
		this.drawing = svg("svg", { role: "img", height: HEIGHT, tabindex: 0, focusable: "true" });
		this.values = series.map(() => h("b", {}, "–"));
		this.moment = h("span", { class: "moment" });
		this.element = h("figure", { class: "chart" },
			h("figcaption", {}, h("span", { class: "chart-title" }, title), this.moment),
			this.drawing,
			h("ul", { class: "legend" }, series.map((each, index) =>
				h("li", {}, svg("svg", { width: 18, height: 8, "aria-hidden": "true" }, svg("line", {
					x1: 0, y1: 4, x2: 18, y2: 4, class: "line series-" + each.color, "stroke-dasharray": each.dash,
				})), each.name + " ", this.values[index]))));
		this.drawing.addEventListener("pointermove", (event) => this.#point(event.offsetX));
		this.drawing.addEventListener("pointerleave", () => this.#leave());
		this.drawing.addEventListener("blur", () => this.#leave());
		this.drawing.addEventListener("keydown", (event) => this.#step(event));
		new ResizeObserver(() => this.draw()).observe(this.drawing);
	}

	show(seconds) {
		this.seconds = seconds;
		this.draw();
	}

	update(samples) {
		this.samples = samples;
		this.draw();
	}

	#leave() {
		this.cursor = null;
		this.draw();
	}

	#point(x) {
		const { begin, width } = this.scale || {};

		if (!width || !this.samples.length)
			return;
		const at = begin + (x - LEFT) / (width - LEFT - RIGHT) * this.seconds * 1000;

		this.cursor = this.samples.reduce((best, each) => Math.abs(each[0] - at) < Math.abs(best - at) ? each[0] : best,
			this.samples[0][0]);
		this.draw();
	}

	#step(event) {
		const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];

		if (!step || !this.samples.length)
			return;
		event.preventDefault();
		const now = this.samples.findIndex((each) => each[0] === this.cursor);
		const next = now < 0 ? this.samples.length - 1 : Math.min(Math.max(now + step, 0), this.samples.length - 1);
		this.cursor = this.samples[next][0];
		this.draw();
	}

	/* Begun anew where a value is missing. */
	#path(samples, index, x, y) {
		let path = "", drawn = false, before = 0;

		for (const sample of samples) {
			const value = sample[index + 1];

			drawn = drawn && sample[0] - before <= GAP_MS;
			before = sample[0];
			if (value === null || value === undefined) {
				drawn = false;
				continue;
			}
			path += `${drawn ? "L" : "M"}${x(sample[0]).toFixed(1)} ${y(value).toFixed(1)}`;
			drawn = true;
		}
		return path;
	}

	draw() {
		const width = this.drawing.clientWidth;

		if (width < LEFT + RIGHT + 20)
			return;
		const end = this.samples.length ? this.samples[this.samples.length - 1][0] : Date.now();
		const begin = end - this.seconds * 1000, shown = this.samples.filter((sample) => sample[0] >= begin);
		const top = niceCeiling(Math.max(...shown.flatMap((each) => each.slice(1)).map((value) => value || 0), 0));
		const x = (at) => LEFT + (at - begin) / (this.seconds * 1000) * (width - LEFT - RIGHT);
		const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
		const parts = [];

		this.scale = { begin, width };
		for (const part of [0, 0.5, 1])
			parts.push(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(top * part), y2: y(top * part), class: "grid" }),
				svg("text", { x: LEFT - 6, y: y(top * part) + 4, class: "tick", "text-anchor": "end" },
					this.format(top * part)));
		for (const part of [0, 0.5, 1])
			parts.push(svg("text", {
				x: LEFT + part * (width - LEFT - RIGHT), y: HEIGHT - 4, class: "tick",
				"text-anchor": ["start", "middle", "end"][part * 2],
			}, part === 1 ? "now" : `−${Math.round(this.seconds * (1 - part))} s`));
		this.series.forEach((each, index) => parts.push(svg("path", {
			d: this.#path(shown, index, x, y), class: "line series-" + each.color, "stroke-dasharray": each.dash,
		})));
		const picked = this.cursor === null ? null : shown.find((each) => each[0] === this.cursor);
		if (picked)
			parts.push(svg("line", { x1: x(picked[0]), x2: x(picked[0]), y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" }));
		this.drawing.replaceChildren(...parts);
		this.#tell(picked || shown[shown.length - 1], Boolean(picked));
	}

	#tell(sample, isPicked) {
		this.series.forEach((each, index) => setText(this.values[index], this.format(sample ? sample[index + 1] : null)));
		setText(this.moment, isPicked ? timeOfDay(sample[0]) : "");
		this.drawing.setAttribute("aria-label", `${this.title}, the last ${this.seconds} seconds. ` +
			this.series.map((each, index) => `${each.name}: ${this.values[index].textContent}`).join(", "));
	}
}
