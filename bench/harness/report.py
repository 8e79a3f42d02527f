"""The tables of docs/performance.md, rewritten between their markers from a run's JSON."""

import os
import re
import statistics

PROTOCOLS = ("simple", "extended", "prepared")
OURS = "helios"
INSTRUCTIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "results", "instructions.txt")


def update(page, result):
    with open(page, encoding="utf-8") as f:
        text = f.read()
    for name, table in tables(result).items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"run.py: {page} has no markers for the table {name}")
        if table is None:
            continue  # not measured this time: what stands there stays
        before, rest = text.split(begin, 1)
        text = before + begin + "\n" + table + end + rest.split(end, 1)[1]
    with open(page, "w", encoding="utf-8") as f:
        f.write(text)


def tables(result):
    cells = result["cells"]
    return {
        "machine": about(result["about"]) + disturbance(cells),
        "throughput": throughput(cells),
        "cpu": cpu(cells),
        "whole": whole_cost(cells),
        "calls": calls(cells),
        "connect": connect(cells),
        "stream": stream(cells),
        "memory": memory(cells),
        "instructions": instructions(),
    }


def about(a):
    versions = sorted(set(a["versions"].values()))
    remark = f" {a['remark']}." if a.get("remark") else ""  # added to the JSON by hand
    return (f"{a['date']}; commit `{a['commit']}`{' with changes not committed' if a['modified'] else ''}; "
            f"{a['cores']} cores ({a['cpu']}), Linux {a['kernel']}; {', '.join(versions)}; {a['rounds']} rounds of "
            f"{a['seconds']} s; load average before the run {a['load']:.1f}.{remark}\n")


def median(cell, target, key):
    values = cell.get(target, {}).get(key)
    return statistics.median(values) if values else None


def pgbouncer_of(cell):
    return next((name for name in cell if name.startswith("pgbouncer")), None)


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(a, b):
    return "" if not a or not b else f"{a / b:.2f}"


def table(header, rows):
    if not rows:
        return None
    align = ["---"] + ["---:"] * (len(header) - 1)
    lines = [header, align] + rows
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def rows_of(cells, *prefixes):
    return [(label, cell) for label, cell in cells.items() if label.split("/")[0] in prefixes and cell]


def note(cell):
    return " (session mode)" if pgbouncer_of(cell) == "pgbouncer-session" else ""


def compared(cell, key, digits=0):
    """direct, ours with all workers and with one, PgBouncer; and the ratios."""
    ours, one = median(cell, OURS, key), median(cell, "helios-1w", key)
    direct, peer = median(cell, "direct", key), median(cell, pgbouncer_of(cell), key)
    best = max(filter(None, (ours, one)), default=None)
    return [number(direct, digits), number(ours, digits), number(one, digits), number(peer, digits) + note(cell),
            ratio(ours, peer), ratio(one, peer), ratio(best, direct)]


COMPARED = ["direct", "helios", "one worker", "PgBouncer", "helios / PgBouncer", "one worker / PgBouncer",
            "better of both / direct"]


def instructions():
    """What `bench/instructions.sh BINARY > bench/results/instructions.txt` has written."""
    if not os.path.exists(INSTRUCTIONS):
        return None
    with open(INSTRUCTIONS, encoding="utf-8") as f:
        rows = [[name, number(int(count))] for name, count in (line.split() for line in f)]
    return table(["protocol", "instructions a query"], rows)


def whole_cost(cells):
    """Proxy, server and client together: what limits the throughput of a machine that is full."""
    rows = []
    for label, cell in rows_of(cells, *PROTOCOLS, "connect"):
        whole = {}
        for name in cell:
            parts = [median(cell, name, key) for key in ("cpu_us", "server_us", "client_us")]
            whole[name] = sum(filter(None, parts)) if parts[1] is not None else None
        peer = whole.get(pgbouncer_of(cell))
        rows.append([label.replace("/", ", ")] + [number(whole.get(name)) for name in ("direct", OURS, "helios-1w")] +
                    [number(peer) + note(cell), ratio(whole.get(OURS), peer), ratio(whole.get("helios-1w"), peer)])
    return table(["µs of CPU a transaction, of proxy, server and client", "direct", *COSTS], rows)


def disturbance(cells):
    found = [v for cell in cells.values() for values in cell.values() for v in values.get("others", [])]
    if not found:
        return ""
    return (f"Other programs had {statistics.median(found):.2f} cores meanwhile (median of all rounds; "
            f"{statistics.quantiles(found, n=10)[-1]:.2f} in the worst tenth of them).\n")


def throughput(cells):
    rows = [[label.replace("/", ", ")] + compared(cell, "tps") for label, cell in rows_of(cells, *PROTOCOLS)]
    return table(["transactions a second", *COMPARED], rows)


def costs(cell, key, digits):
    ours, one, peer = (median(cell, name, key) for name in (OURS, "helios-1w", pgbouncer_of(cell)))
    return [number(ours, digits), number(one, digits), number(peer, digits) + note(cell), ratio(ours, peer),
            ratio(one, peer)]


COSTS = ["helios", "one worker", "PgBouncer", "helios / PgBouncer", "one worker / PgBouncer"]


def cpu(cells):
    rows = [[label.replace("/", ", ")] + costs(cell, "cpu_us", 1)
            for label, cell in rows_of(cells, *PROTOCOLS, "connect")]
    return table(["µs of the proxy's CPU a transaction", *COSTS], rows)


def calls(cells):
    found = rows_of(cells, "calls")
    rows = [[label.split("/", 1)[1].replace("/", ", ")] + costs(cell, "calls", 1) for label, cell in found]
    made = table(["system calls a transaction", *COSTS], rows)
    if made and any("with_strace" in values for _, cell in found for values in cell.values()):
        made += "\nCounted with strace, which slows the proxy down.\n"
    return made


def connect(cells):
    rows = [[label.split("/")[1]] + compared(cell, "tps") for label, cell in rows_of(cells, "connect")]
    return table(["connections a second", *COMPARED], rows)


def stream(cells):
    rows = []
    for label, cell in rows_of(cells, "stream"):
        ours, peer = (median(cell, name, "cpu_us") for name in (OURS, pgbouncer_of(cell)))
        name = re.sub(r"^(\d+MB)-(\w+?)(-copy)?$", r"\1, rows of \2\3", label.split("/")[1]).replace("-copy", ", COPY")
        rows.append([name] + compared(cell, "mb_per_s") + [number(ours), number(peer)])
    return table(["MB a second", *COMPARED, "helios, µs CPU a MB", "PgBouncer"], rows)


def memory(cells):
    cell = cells.get("memory/idle")
    if not cell:
        return None
    names = (OURS, "helios-1w", pgbouncer_of(cell))
    rows = [[text] + [number(median(cell, name, key)) for name in names]
            for text, key in (("logged in", "bytes_logged_in"), ("after a query of each", "bytes_used"))]
    return table(["bytes for each idle client", *COSTS[:3]], rows)
