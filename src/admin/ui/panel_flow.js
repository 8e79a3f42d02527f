/* What happens: events and the log, each first from memory, then live as a stream. */
import { ApiError, get, LostError, query, stream } from "./api.js";
import { h, setText, timeOfDay } from "./dom.js";
import { explain, field, Part } from "./parts.js";

const KEPT = 500, FIRST = 200, AGAIN_MS = 2000;
const TONES = { error: "bad", fatal: "bad", warning: "warn", warn: "warn" };

const LEVELS = [["", "all"], ["info", "info and worse"], ["warning", "warnings and worse"], ["error", "errors"]];

function fieldsText(fields) {
	return Object.entries(fields || {}).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
		.join(" ");
}

class Flow {
	constructor({ id, path, choices, choiceName, label, what }) {
		this.path = path;
		this.choiceName = choiceName;
		this.list = h("div", { class: "flow", id, tabindex: 0, role: "log", "aria-label": label });
		this.items = [];
		this.last = null;
		this.live = h("span", { class: "pill", role: "status" }, "not connected");
		this.choice = h("select", { onchange: () => this.restart() }, choices.map(([value, text]) => h("option", { value }, text)));
		this.search = h("input", { type: "search", oninput: () => this.filter(), "data-search": true, autocomplete: "off" });
		this.controls = h("div", { class: "card fields", role: "search" }, field(choiceName, this.choice), field("filter", this.search),
			this.live);
		this.none = h("p", { class: "empty" }, what);
		this.part = new Part(this.list, this.none);
	}

	line(item) {
		const level = item.severity || item.level, words = fieldsText(item.fields);
		const element = h("div", {},
			h("time", { datetime: item.at, title: item.at }, timeOfDay(item.at)),
			h("span", {}, h("span", { class: "pill " + (TONES[level] || "") }, level)),
			h("span", {}, item.kind ? h("b", {}, item.kind + " ") : null, item.subject ? h("code", {}, item.subject + " ") : null,
				item.message, words ? h("span", { class: "fields-text" }, " " + words) : null));

		element.hidden = !this.fits(element);
		return element;
	}

	fits(element) {
		return element.textContent.toLowerCase().includes(this.search.value.trim().toLowerCase());
	}

	filter() {
		for (const element of this.list.children)
			element.hidden = !this.fits(element);
	}

	/* The newest on top. */
	add(item) {
		if (item.seq !== undefined && this.last !== null && item.seq <= this.last)
			return;
		this.last = item.seq ?? this.last;
		this.list.prepend(this.line(item));
		while (this.list.children.length > KEPT)
			this.list.lastChild.remove();
		this.none.hidden = true;
	}

	say(text, tone) {
		setText(this.live, text);
		this.live.className = "pill " + tone;
	}

	parameters() {
		return this.choice.value ? { [this.choiceName]: this.choice.value } : {};
	}

	restart() {
		this.list.replaceChildren();
		this.last = null;
		this.none.hidden = false;
		if (this.control) {
			this.stop();
			this.start();
		}
	}

	start() {
		this.stop();
		this.control = new AbortController();
		this.follow(this.control.signal);
	}

	stop() {
		this.control?.abort();
		this.control = null;
		this.say("not connected", "");
	}

	/* What is remembered. False: there is no such thing, or not for us. */
	load(signal) {
		return this.part.load(async () => {
			const answer = await get(this.path + query({ ...this.parameters(), after: this.last, limit: FIRST }), { signal });

			/* Numbers begin anew with each process: this is another one, and all of it is new. */
			if (this.last !== null && (answer.last ?? 0) < this.last) {
				this.last = null;
				return this.load(signal);
			}
			answer.items.forEach((item) => this.add(item));
			this.last = Math.max(this.last ?? 0, answer.last ?? 0);
			return null;
		});
	}

	got(item) {
		if ("missed" in item) {
			this.list.prepend(h("div", {}, h("span"), h("span"), h("span", { class: "fields-text" },
				`${item.missed ?? "Some"} are missing here: they came faster than they could be sent.`)));
			this.last = item.next - 1;
		} else {
			this.add(item);
		}
	}

	/* What is remembered, then what comes; again and again, until stopped or told that there is no such thing. */
	async follow(signal) {
		while (!signal.aborted) {
			try {
				if (!await this.load(signal)) {
					this.say("not available", "");
					return;
				}
				await stream(this.path + "/stream" + query(this.parameters()), {
					signal, after: this.last, opened: () => this.say("live", "good"), got: (item) => this.got(item),
				});
				this.say("interrupted, trying again", "warn");
			} catch (error) {
				if (signal.aborted)
					return;
				if (!(error instanceof LostError || error instanceof ApiError))
					throw error;
				this.say(error instanceof ApiError ? `${explain(error)}; trying again` : "interrupted, trying again", "warn");
			}
			await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
		}
	}
}

function panel(flow, { id, title, about }) {
	return {
		id, title, about, every: 5000,
		build: (section) => section.append(flow.controls, flow.part.element),
		show: () => flow.start(),
		hide: () => flow.stop(),
	};
}

export const events = panel(new Flow({
	id: "events", path: "/events", choiceName: "severity", label: "Events", what: "No events yet.",
	choices: LEVELS.slice(0, 1).concat(LEVELS.slice(2)),
}), { id: "event-stream", title: "Events", about: "What changed: nodes, pools, configuration, people. Live." });

export const log = panel(new Flow({
	id: "log", path: "/log", choiceName: "level", label: "Log", what: "No lines yet.",
	choices: LEVELS,
}), { id: "log-tail", title: "Log", about: "The last lines that the proxy wrote. Live." });
