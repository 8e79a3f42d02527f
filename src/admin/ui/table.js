/*
 * A table that is refreshed: rows are kept by key, cells change only where their text does, so focus and selection
 * survive. Columns: { title, value(item): string or number to sort by, show(item): text, or { text, tone }, numeric,
 * make(row): an element made once for each row, update(element, item), order: what its order is called elsewhere }.
 */
import { h, setText } from "./dom.js";

export class Table {
	/* ordered(column): others sort, by what is chosen here; then columns with an `order` can be chosen. */
	constructor({ id, label, columns, key, sort, empty, ordered }) {
		this.columns = columns;
		this.ordered = ordered;
		this.key = key;
		this.empty = empty || "Nothing to show.";
		this.sort = sort || null; /* { column: index, down: bool }; null: as it came */
		this.rows = new Map();
		this.items = [];
		this.heads = columns.map((column, index) => this.#head(column, index));
		this.body = h("tbody");
		this.none = h("p", { class: "empty", hidden: true });
		this.element = h("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": label, id },
			h("table", {}, h("thead", {}, h("tr", {}, this.heads)), this.body), this.none);
	}

	#head(column, index) {
		if (this.ordered ? !column.order : !column.value)
			return h("th", { scope: "col", class: column.numeric ? "numeric" : "" }, column.title);
		return h("th", { scope: "col", class: column.numeric ? "numeric" : "" },
			h("button", { type: "button", class: "sort", onclick: () => this.#sortBy(index) }, column.title));
	}

	#sortBy(index) {
		if (this.ordered) {
			this.ordered(this.columns[index]);
			return;
		}
		const down = this.sort?.column === index ? !this.sort.down : Boolean(this.columns[index].numeric);

		this.sort = { column: index, down };
		this.update(this.items);
	}

	#sorted(items) {
		if (!this.sort || this.ordered)
			return items;
		const { value } = this.columns[this.sort.column], sign = this.sort.down ? -1 : 1;

		return [...items].sort((a, b) => {
			const x = value(a), y = value(b);

			if (x === y)
				return 0;
			if (x === null || x === undefined)
				return 1; /* what is not known comes last */
			if (y === null || y === undefined)
				return -1;
			return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
		});
	}

	#row(item) {
		const row = { item, cells: [], element: h("tr") };

		for (const column of this.columns) {
			const cell = h(column.isName ? "th" : "td", {
				class: [column.numeric && "numeric", column.wide && "wide", column.classes].filter(Boolean).join(" ") || null,
				scope: column.isName ? "row" : null,
			});
			if (column.make)
				cell.append(column.make(row));
			row.cells.push(cell);
		}
		row.element.append(...row.cells);
		return row;
	}

	#fill(row) {
		this.columns.forEach((column, index) => {
			const cell = row.cells[index];

			if (column.make) {
				column.update?.(cell.firstChild, row.item);
				return;
			}
			const shown = column.show(row.item);
			if (shown !== null && typeof shown === "object") {
				if (!cell.firstElementChild)
					cell.replaceChildren(h("span", { class: "pill" }));
				setText(cell.firstElementChild, shown.text);
				cell.firstElementChild.className = "pill " + (shown.tone || "");
			} else {
				setText(cell, String(shown));
			}
			if (column.wide)
				cell.title = cell.textContent;
		});
	}

	update(items) {
		const seen = new Set();
		let before = null;

		this.items = items;
		this.heads.forEach((head, index) => {
			if (this.sort?.column === index)
				head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
			else
				head.removeAttribute("aria-sort");
		});
		for (const item of this.#sorted(items)) {
			const key = String(this.key(item));
			let row = this.rows.get(key);

			if (!row)
				this.rows.set(key, row = this.#row(item));
			row.item = item;
			seen.add(key);
			this.#fill(row);
			const place = before ? before.nextSibling : this.body.firstChild;
			if (place !== row.element)
				this.body.insertBefore(row.element, place);
			before = row.element;
		}
		for (const [key, row] of this.rows)
			if (!seen.has(key)) {
				row.element.remove();
				this.rows.delete(key);
			}
		this.none.hidden = items.length > 0;
		setText(this.none, this.empty);
	}
}
