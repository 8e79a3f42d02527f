/* Requests to the admin API: token, time-outs, errors, event streams. Nothing here knows a panel. */

const BASE = "/api/v1";
const TOKEN = "helios_admin_token";
const TIMEOUT_MS = 10000;

/* The server answered, but not what was asked for. */
export class ApiError extends Error {
	constructor(status, problem) {
		super(problem.detail || problem.error || problem.title || `the proxy answered ${status}`);
		this.status = status;
		this.code = problem.code || null;
		this.problem = problem;
	}

	/* Such an endpoint isn't there: not in this build (501), or not in this version (404). */
	get isMissing() {
		return this.status === 501 || this.status === 404;
	}
}

/* Nobody answered. */
export class LostError extends Error {}

export const session = new EventTarget(); /* "unauthorized", "can" */

let can = null; /* what the token allows; null: not known, then the server decides */

export function token() {
	return sessionStorage.getItem(TOKEN) || "";
}

export function setToken(value) {
	if (value)
		sessionStorage.setItem(TOKEN, value);
	else
		sessionStorage.removeItem(TOKEN);
	can = null;
}

/* "" or why not. */
export function reasonAgainst(right) {
	if (can === null || can.includes(right))
		return "";
	return `This needs the right “${right}”, which your token does not have.`;
}

export async function learnRights() {
	try {
		can = (await get("/whoami")).can || null;
	} catch (error) {
		if (!(error instanceof ApiError))
			throw error;
		can = null;
	}
	session.dispatchEvent(new Event("can"));
}

function headers(more) {
	const bearer = token();

	return { Accept: "application/json, application/problem+json", ...(bearer ? { Authorization: "Bearer " + bearer } : {}),
		...more };
}

function address(path) {
	return path.startsWith("//") ? path.slice(1) : BASE + path;
}

async function failure(answer) {
	let problem = {};

	try {
		problem = await answer.json();
	} catch {
		/* no JSON: the status has to do */
	}
	if (answer.status === 401)
		session.dispatchEvent(new Event("unauthorized"));
	return new ApiError(answer.status, problem && typeof problem === "object" ? problem : {});
}

/* fetch() that tells a proxy that is gone from one that says no. */
async function send(path, options) {
	try {
		return await fetch(address(path), { cache: "no-store", credentials: "same-origin", ...options });
	} catch (error) {
		if (options.signal && options.signal.aborted && options.signal.reason !== TIMED_OUT)
			throw error;
		throw new LostError(error.message);
	}
}

const TIMED_OUT = new Error("no answer in time");

async function request(method, path, { body, signal, timeout = TIMEOUT_MS } = {}) {
	const control = new AbortController();
	const timer = setTimeout(() => control.abort(TIMED_OUT), timeout);
	const give_up = () => control.abort(signal.reason);

	signal?.addEventListener("abort", give_up);
	try {
		const answer = await send(path, {
			method, signal: control.signal, body: body === undefined ? undefined : JSON.stringify(body),
			headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
		});
		if (!answer.ok)
			throw await failure(answer);
		try {
			return await answer.json();
		} catch (error) {
			throw control.signal.reason === TIMED_OUT ? new LostError("no answer in time") :
				new ApiError(answer.status, { detail: "the answer is no JSON" });
		}
	} finally {
		clearTimeout(timer);
		signal?.removeEventListener("abort", give_up);
	}
}

/* A path is under /api/v1; with two slashes in front ("//plugins") it is one outside of it. */
export const get = (path, options) => request("GET", path, options);
export const post = (path, body, options) => request("POST", path, { ...options, body });
export const del = (path, options) => request("DELETE", path, options);

export function query(parameters) {
	const found = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);

	return found.length ? "?" + new URLSearchParams(found) : "";
}

/* ---- server-sent events, by fetch(): an EventSource could not send the token ---- */

async function* lines(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";

	for (;;) {
		const { value, done } = await reader.read();

		if (done)
			return;
		const parts = (rest + value).split(/\r\n|\n|\r/);
		rest = parts.pop();
		yield* parts;
	}
}

/*
 * Calls got(item) for each event until the stream ends; then throws, or returns the last id seen. opened() once the proxy
 * has agreed.
 */
export async function stream(path, { after, signal, opened, got }) {
	const answer = await send(path, {
		signal, headers: headers({ Accept: "text/event-stream", ...(after ? { "Last-Event-ID": String(after) } : {}) }),
	});
	let data = [], id = after;

	if (!answer.ok)
		throw await failure(answer);
	opened();
	try {
		for await (const line of lines(answer.body)) {
			if (line === "" && data.length) {
				got(JSON.parse(data.join("\n")));
				data = [];
			} else if (line.startsWith("data:")) {
				data.push(line.slice(line[5] === " " ? 6 : 5));
			} else if (line.startsWith("id:")) {
				id = line.slice(3).trim();
			}
		}
	} catch (error) {
		if (signal.aborted)
			throw error;
		throw new LostError(error.message);
	}
	return id;
}
