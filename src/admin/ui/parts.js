/* What panels share: notices, messages, confirmations, buttons that do something to the proxy. */
import { ApiError, LostError, reasonAgainst, session } from "./api.js";
import { h, setText } from "./dom.js";

/* ---- a part of a panel that one request fills ---- */

/* Shows its content, or says why there is none: nothing is made up, and nothing old is left standing. */
export class Part {
	constructor(...content) {
		this.notice = h("p", { class: "notice", hidden: true });
		this.content = h("div", {}, content);
		this.element = h("div", { class: "part" }, this.notice, this.content);
	}

	/* LostError goes on: that is the page's business. */
	async load(work) {
		try {
			await work();
		} catch (error) {
			if (!(error instanceof ApiError))
				throw error;
			this.refuse(error);
			return false;
		}
		this.notice.hidden = true;
		this.content.hidden = false;
		return true;
	}

	refuse(error) {
		this.content.hidden = true;
		this.notice.hidden = false;
		this.notice.className = "notice " + (error.isMissing ? "" : "warn");
		this.notice.textContent = explain(error);
	}
}

export function explain(error) {
	if (error.status === 401)
		return "The proxy asks for a token here: see “Token” above.";
	if (error.status === 501)
		return "Not available: " + error.message + ".";
	if (error.status === 404)
		return "Not available: this proxy does not have that endpoint (404).";
	if (error instanceof LostError)
		return "No answer from the proxy: " + error.message;
	return error.message;
}

/* ---- messages ---- */

export function toast(message, tone = "good") {
	const line = h("p", { class: tone }, message);
	const toasts = document.getElementById("toasts");

	toasts.append(line);
	while (toasts.children.length > 4)
		toasts.firstChild.remove();
	setTimeout(() => line.remove(), tone === "bad" ? 12000 : 6000);
}

/* ---- dialogs: what has the focus comes back to it afterwards, the browser sees to that ---- */

function open(dialog, resolve, answer) {
	dialog.addEventListener("close", () => {
		dialog.remove();
		resolve(answer());
	});
	document.body.append(dialog);
	dialog.showModal();
}

let dialogs = 0;

/* true: go on. The focus is on the button that changes nothing. */
export function confirm({ title, text, action, risky = true }) {
	return new Promise((resolve) => {
		let yes = false;
		const id = `dialog-${++dialogs}`;
		const dialog = h("dialog", { "aria-labelledby": id, class: "confirm" },
			h("h2", { id }, title), h("p", {}, text),
			h("div", { class: "buttons" },
				h("button", { type: "button", autofocus: true, class: "cancel", onclick: () => dialog.close() }, "Leave it"),
				h("button", {
					type: "button", class: risky ? "risky go" : "main go",
					onclick: () => {
						yes = true;
						dialog.close();
					},
				}, action)));

		open(dialog, resolve, () => yes);
	});
}

/* The token typed, "" for none any more, null: nothing was decided. */
export function askToken(why) {
	return new Promise((resolve) => {
		let answer = null;
		const input = h("input", { type: "password", id: "token-input", autocomplete: "off", spellcheck: "false", autofocus: true });
		const leave = (value) => {
			answer = value;
			dialog.close();
		};
		const dialog = h("dialog", { "aria-labelledby": "token-title", id: "token-dialog" },
			h("h2", { id: "token-title" }, "Token of the admin API"),
			why ? h("p", { class: "notice warn" }, why) : null,
			h("label", { for: "token-input" }, "Bearer token"), input,
			h("p", { class: "quiet" }, "It is kept for this browser tab only, and goes nowhere but to this proxy."),
			h("div", { class: "buttons" },
				h("button", { type: "button", onclick: () => leave("") }, "Forget the token"),
				h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
				h("button", { type: "button", class: "main", id: "token-save", onclick: () => leave(input.value.trim()) }, "Use it")));

		input.addEventListener("keydown", (event) => {
			if (event.key !== "Enter")
				return;
			event.preventDefault(); /* else it would press the button that gets the focus back, too */
			leave(input.value.trim());
		});
		open(dialog, resolve, () => answer);
	});
}

/* Something in full: what stands above, and names with their values. */
export function showFacts(title, above, facts) {
	return new Promise((resolve) => {
		const id = `dialog-${++dialogs}`;
		const dialog = h("dialog", { "aria-labelledby": id, class: "facts" },
			h("h2", { id }, title), above,
			h("dl", { class: "keys" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
			h("div", { class: "buttons" },
				h("button", { type: "button", class: "main", autofocus: true, onclick: () => dialog.close() }, "Close")));

		open(dialog, resolve, () => undefined);
	});
}

export function showHelp(entries, options) {
	return new Promise((resolve) => {
		const dialog = h("dialog", { "aria-labelledby": "help-title", id: "help-dialog" },
			h("h2", { id: "help-title" }, "Keyboard"),
			h("dl", { class: "keys" }, entries.map(([keys, text]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, text)])),
			options,
			h("div", { class: "buttons" },
				h("button", { type: "button", class: "main", autofocus: true, onclick: () => dialog.close() }, "Close")));

		open(dialog, resolve, () => undefined);
	});
}

/* ---- buttons that change something ---- */

const guarded = new Set();

function guard(button, right) {
	const reason = reasonAgainst(right);

	if (reason)
		button.setAttribute("aria-disabled", "true");
	else
		button.removeAttribute("aria-disabled");
	button.title = reason || button.dataset.title || "";
}

session.addEventListener("can", () => {
	for (const each of guarded) {
		const button = each.deref();

		if (button)
			guard(button, button.dataset.right);
		else
			guarded.delete(each);
	}
});

/*
 * right: what the token must allow. A button without it stays reachable and says why it does nothing. work() answers the
 * message to show, or null.
 */
export function actionButton({ label, title, right, classes, id, work }) {
	const button = h("button", { type: "button", class: classes || "small", "data-right": right, "data-title": title, id,
		onclick: run }, label);

	async function run() {
		const reason = reasonAgainst(right);

		if (reason) {
			toast(reason, "bad");
			return;
		}
		if (button.dataset.busy)
			return;
		button.dataset.busy = "1";
		try {
			const message = await work();

			if (message)
				toast(message);
		} catch (error) {
			if (!(error instanceof ApiError || error instanceof LostError))
				throw error;
			toast(explain(error), "bad");
		} finally {
			delete button.dataset.busy;
		}
	}

	guarded.add(new WeakRef(button));
	guard(button, right);
	return button;
}

/* The clipboard is there for pages that came by TLS or from this machine; else a selection does it. */
async function copy(value) {
	if (navigator.clipboard) {
		await navigator.clipboard.writeText(value);
		return true;
	}
	const area = h("textarea", { class: "away", "aria-hidden": "true", tabindex: -1 });

	(document.querySelector("dialog[open]") || document.body).append(area);
	area.value = value;
	area.select();
	const done = document.execCommand("copy");
	area.remove();
	return done;
}

export function copyButton(label, value) {
	return h("button", {
		type: "button", class: "small",
		async onclick(event) {
			const button = event.currentTarget;
			const done = await copy(value()).catch(() => false);

			button.focus();
			setText(button, done ? "Copied" : "Not allowed");
			setTimeout(() => setText(button, label), 2000);
		},
	}, label);
}

/* A field with its label. */
export function field(label, control, classes) {
	return h("label", { class: classes }, label, control);
}

export function debounce(work, ms = 250) {
	let timer = 0;

	return () => {
		clearTimeout(timer);
		timer = setTimeout(work, ms);
	};
}

/* Hands a file made here to the browser. */
export function download(name, type, text) {
	const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });

	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
