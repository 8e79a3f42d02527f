/* A statement by hand: where it would go, and what it answers. */
import { ApiError, get, LostError, post, query } from "./api.js";
import { h, milliseconds, number } from "./dom.js";
import { actionButton, download, explain, field } from "./parts.js";

const RUN_TIMEOUT_MS = 120000;

const input = (id, attributes) => h("input", { id, autocomplete: "off", spellcheck: "false", ...attributes });
const statement = h("textarea", { id: "sql", rows: 4, spellcheck: "false", autocapitalize: "off", "data-search": true,
	placeholder: "select …" });
const database = input("sql-database"), user = input("sql-user"), password = input("sql-password", { type: "password" });
const rows = input("sql-rows", { type: "number", min: 1, max: 100000, value: 500, class: "narrow" });
const writes = h("input", { type: "checkbox", id: "sql-writes" });
const result = h("div", { id: "sql-result", "aria-live": "polite" });
const route = h("div", { id: "sql-route", "aria-live": "polite" });

/* ---- the result ---- */

const quote = (value) => value === null ? "" : /[",\r\n]|^$|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;

/* As RFC 4180 has it; NULL is empty and an empty string is "". */
function csv(answer) {
	return [answer.columns.map((column) => quote(column.name)), ...answer.rows.map((row) => row.map(quote))]
		.map((row) => row.join(",") + "\r\n").join("");
}

function tableOf(answer) {
	return h("div", { class: "table-frame result-frame", tabindex: 0, role: "region", "aria-label": "Result" },
		h("table", { class: "result" },
			h("thead", {}, h("tr", {}, answer.columns.map((column) =>
				h("th", { scope: "col", title: column.type }, column.name)))),
			h("tbody", {}, answer.rows.map((row) => h("tr", {}, row.map((value) =>
				value === null ? h("td", { class: "null" }, "NULL") : h("td", { title: value.length > 60 ? value : null }, value)))))));
}

function show(answer) {
	const facts = [answer.command, `${number(answer.row_count)} rows`, milliseconds(answer.elapsed_ms),
		answer.node ? `answered by ${answer.node}${answer.node_role ? ` (${answer.node_role})` : ""}` : null];

	result.replaceChildren(
		h("p", { class: "notice good" }, facts.filter(Boolean).join(" · ")),
		...(answer.truncated ? [h("p", { class: "notice warn" }, "There is more: the result was cut.")] : []),
		...(answer.notices || []).map((notice) => h("p", { class: "notice" }, typeof notice === "string" ? notice :
			[notice.severity, notice.message].filter(Boolean).join(": "))),
		...(answer.columns?.length ? [tableOf(answer), h("div", { class: "buttons" }, h("button", {
			type: "button", id: "sql-csv",
			onclick: () => download("result.csv", "text/csv;charset=utf-8", csv(answer)),
		}, "Download as CSV"))] : []));
}

function fail(to, error) {
	if (!(error instanceof ApiError || error instanceof LostError))
		throw error;
	const { sqlstate, hint, position } = error.problem || {};
	const more = [sqlstate ? `SQLSTATE ${sqlstate}` : "", position ? `at character ${position}` : "", hint ? `Hint: ${hint}` : ""];

	to.replaceChildren(h("p", { class: "notice bad" }, [explain(error), ...more].filter(Boolean).join(" · ")));
}

function body() {
	const found = { query: statement.value, max_rows: Number(rows.value) || 500 };

	for (const [key, control] of [["database", database], ["user", user], ["password", password]])
		if (control.value)
			found[key] = control.value;
	if (writes.checked)
		found.allow_writes = true;
	return found;
}

async function run() {
	if (!statement.value.trim())
		return null;
	result.replaceChildren(h("p", { class: "notice" }, "Running …"));
	try {
		show(await post("/sql", body(), { timeout: RUN_TIMEOUT_MS }));
	} catch (error) {
		fail(result, error);
	}
	return null;
}

/* ---- the route ---- */

/* The answer as it is: names of what was decided, and why. */
function factsOf(value, path = "") {
	if (value !== null && typeof value === "object" && !Array.isArray(value))
		return Object.entries(value).flatMap(([key, each]) => factsOf(each, path ? `${path}.${key}` : key));
	const text = Array.isArray(value) ? value.map((each) => typeof each === "object" ? JSON.stringify(each) : String(each)).join(", ") :
		String(value ?? "–");

	return [h("tr", {}, h("th", { scope: "row" }, path), h("td", { class: "value" }, text))];
}

async function explainRoute() {
	if (!statement.value.trim())
		return null;
	try {
		const answer = await get("/routing/explain" + query({ query: statement.value, database: database.value, user: user.value }));

		route.replaceChildren(h("h2", {}, "Where it would go"),
			h("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Where it would go" },
				h("table", { class: "wrap" }, h("tbody", {}, factsOf(answer)))));
	} catch (error) {
		fail(route, error);
	}
	return null;
}

const runButton = actionButton({ label: "Run", right: "operate", classes: "main", id: "run", title: "Ctrl Enter", work: run });

statement.addEventListener("keydown", (event) => {
	if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
		event.preventDefault();
		runButton.click();
	}
});

export const sql = {
	id: "sql-console",
	title: "SQL",
	about: "One statement, through the proxy as any client's, in a READ ONLY transaction unless writes are allowed.",
	every: 5000,

	build(section) {
		section.append(
			h("div", { class: "card" },
				h("label", { for: "sql" }, "Statement"), statement,
				h("div", { class: "fields" }, field("database", database), field("user", user), field("password", password),
					field("rows at most", rows), field("writes are allowed", writes, "inline")),
				h("div", { class: "buttons" }, runButton,
					actionButton({ label: "Where would it go?", right: "read", classes: "", id: "explain", work: explainRoute }))),
			result, route);
	},
};
