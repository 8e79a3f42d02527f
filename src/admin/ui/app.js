/*
 * The page: which panel is shown, when it is refreshed, and whether the proxy answers at all. A panel is
 * { id, title, every (ms), build(section), refresh(signal), show(), hide() }; show and hide are for those that keep a
 * stream open. Nothing is asked for while the tab is hidden or the page paused.
 */
import { ApiError, LostError, get, learnRights, reasonAgainst, session, setToken, token } from "./api.js";
import { duration, h, setText } from "./dom.js";
import { askToken, explain, showHelp, toast } from "./parts.js";
import { configuration } from "./panel_config.js";
import { events, log } from "./panel_flow.js";
import { more } from "./panel_more.js";
import { nodes } from "./panel_nodes.js";
import { overview } from "./panel_overview.js";
import { pools } from "./panel_pools.js";
import { queries } from "./panel_queries.js";
import { sessions } from "./panel_sessions.js";
import { sql } from "./panel_sql.js";

const PANELS = [overview, nodes, pools, sessions, queries, sql, configuration, log, events, more];
const BACKOFF_MS = [1000, 2000, 4000, 8000, 15000, 30000];

const by = (id) => document.getElementById(id);

const page = {
	panel: null,
	paused: false,
	lost: 0, /* attempts that nobody answered, in a row */
	timer: 0,
	request: null, /* AbortController of the refresh under way */
	prompted: false,
};

/* ---- refreshing ---- */

function schedule(ms) {
	clearTimeout(page.timer);
	if (!document.hidden && !page.paused)
		page.timer = setTimeout(refresh, ms);
}

function showState(status) {
	const state = by("state");
	const still = status.suspension !== "off";

	setText(by("version"), status.version ? "v" + status.version : "");
	setText(state, status.draining ? "draining" : still ? "suspended" : status.ready ? "ready" : "not ready");
	state.className = "pill " + (status.draining || still ? "warn" : status.ready ? "good" : "bad");
	state.title = [status.message, `up for ${duration(status.uptime_seconds)}`].filter(Boolean).join(", ");
}

function found() {
	if (page.lost > 0)
		toast("The proxy answers again.");
	page.lost = 0;
	by("lost").hidden = true;
	setText(by("last-refresh"), new Date().toLocaleTimeString("en", { hour12: false }));
}

function lose(error) {
	const wait = BACKOFF_MS[Math.min(page.lost, BACKOFF_MS.length - 1)];

	page.lost++;
	by("lost").hidden = false;
	setText(by("lost-text"), `Connection lost: the proxy does not answer (${error.message}). What is shown is old. ` +
		`Trying again in ${wait / 1000} s.`);
	setText(by("state"), "no answer");
	by("state").className = "pill bad";
	return wait;
}

async function refresh() {
	const panel = page.panel, control = new AbortController();
	let wait = panel.every;

	page.request?.abort();
	page.request = control;
	clearTimeout(page.timer);
	try {
		const [status] = await Promise.all([
			get("/status", { signal: control.signal }).catch((error) => {
				if (!(error instanceof ApiError))
					throw error;
				return error;
			}),
			panel.refresh?.(control.signal),
		]);

		if (status instanceof ApiError) {
			setText(by("state"), status.status === 401 ? "token needed" : "state unknown");
			by("state").className = "pill warn";
			by("state").title = explain(status);
		} else {
			showState(status);
		}
		found();
	} catch (error) {
		if (control.signal.aborted && page.request !== control)
			return;
		if (!(error instanceof LostError))
			throw error;
		control.abort(); /* what else was asked for */
		wait = lose(error);
	}
	if (page.request === control)
		schedule(wait);
}

function stop() {
	clearTimeout(page.timer);
	page.request?.abort();
	page.request = null;
	page.panel?.hide?.();
}

function go() {
	if (document.hidden || page.paused)
		return;
	page.panel.show?.();
	refresh();
}

/* ---- panels ---- */

function choose() {
	const panel = PANELS.find((each) => "#" + each.id === location.hash) || PANELS[0];

	if (panel === page.panel)
		return;
	stop();
	page.panel = panel;
	for (const each of PANELS)
		by("panel-" + each.id).hidden = each !== panel;
	for (const link of by("nav").children) {
		if (link.hash === "#" + panel.id) {
			link.setAttribute("aria-current", "page");
			link.scrollIntoView({ block: "nearest", inline: "nearest" });
		} else {
			link.removeAttribute("aria-current");
		}
	}
	document.title = panel.title + " – HeliosProxy";
	go();
}

function buildPanels() {
	PANELS.forEach((panel, index) => {
		const section = h("section", { class: "panel", id: "panel-" + panel.id, hidden: true, "aria-labelledby": "title-" + panel.id },
			h("header", {}, h("h1", { id: "title-" + panel.id }, panel.title), h("p", { class: "quiet" }, panel.about)));

		panel.build(section);
		by("main").append(section);
		by("nav").append(h("a", { href: "#" + panel.id }, panel.title,
			h("kbd", { "aria-hidden": "true" }, String((index + 1) % 10))));
	});
}

/* ---- the token ---- */

async function changeToken(why) {
	if (by("token-dialog"))
		return;
	const value = await askToken(why);

	if (value === null)
		return;
	setToken(value);
	page.prompted = value === ""; /* a wrong one is asked for again */
	stop();
	await begin();
	go();
}

function showRights() {
	const reason = reasonAgainst("operate") || reasonAgainst("admin");

	setText(by("token-btn"), token() ? "Token ✓" : "Token");
	by("limited").hidden = !reason;
	if (reason)
		setText(by("limited"), reasonAgainst("operate") ?
			"Your token may only look: what changes something is off." :
			"Your token may not change the configuration: that is off.");
}

/* Once by itself: whoever closes the dialog has decided. */
function onUnauthorized() {
	if (page.prompted)
		return;
	page.prompted = true;
	changeToken(token() ? "The proxy does not accept this token." : "The proxy asks for a token.");
}

/* What the token allows: buttons go by it. */
async function begin() {
	try {
		await learnRights();
	} catch (error) {
		if (!(error instanceof LostError))
			throw error;
	}
	showRights();
}

/* ---- keyboard, theme, pause ---- */

function setTheme() {
	const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";

	document.documentElement.dataset.theme = theme;
	localStorage.setItem("helios_theme", theme);
}

function setPaused(paused) {
	page.paused = paused;
	by("pause").setAttribute("aria-pressed", String(paused));
	setText(by("pause"), paused ? "Paused" : "Pause");
	if (paused)
		stop();
	else
		go();
}

const shortcutsAreOn = () => localStorage.getItem("helios_shortcuts") !== "off";

function help() {
	const box = h("input", {
		type: "checkbox", checked: shortcutsAreOn(),
		onchange: () => localStorage.setItem("helios_shortcuts", box.checked ? "on" : "off"),
	});

	return showHelp([
		["1 … 9, 0", "a panel, in the order of the list"], ["/", "search or filter of the panel"], ["r", "refresh now"],
		["p", "pause, go on"], ["t", "dark or light"], ["k", "token"], ["Ctrl Enter", "run the statement of the SQL console"],
		["← →", "on a chart: the values of a moment"], ["?", "this list"],
	], h("label", { class: "inline" }, box, "Keys of one character are on"));
}

const KEYS = {
	"?": help, r: () => page.paused || refresh(), p: () => setPaused(!page.paused), t: setTheme, k: () => changeToken(),
	"/": () => by("panel-" + page.panel.id).querySelector("[data-search]")?.focus(),
};

function onKey(event) {
	const typing = event.target.closest("input, textarea, select, dialog");

	if (typing || event.ctrlKey || event.metaKey || event.altKey || !shortcutsAreOn())
		return;
	if (/^[0-9]$/.test(event.key) && PANELS[(Number(event.key) + 9) % 10]) {
		location.hash = PANELS[(Number(event.key) + 9) % 10].id;
		by("main").focus();
	} else if (KEYS[event.key]) {
		event.preventDefault();
		KEYS[event.key]();
	}
}

/* ---- beginning ---- */

buildPanels();
window.addEventListener("hashchange", choose);
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => document.hidden ? stop() : go());
document.addEventListener("helios-refresh", () => page.paused || refresh()); /* something was changed */
by("skip").addEventListener("click", (event) => {
	event.preventDefault();
	by("main").focus();
});
by("token-btn").addEventListener("click", () => changeToken());
by("theme").addEventListener("click", setTheme);
by("pause").addEventListener("click", () => setPaused(!page.paused));
by("help").addEventListener("click", help);
by("lost-retry").addEventListener("click", refresh);
session.addEventListener("unauthorized", onUnauthorized);
session.addEventListener("can", showRights);
choose();
begin();
