"""The tables and charts of docs/performance.md, rewritten between their markers from what runs have measured."""

import os
import re
import statistics

from . import goals, plot
from .cells import PROTOCOLS
from .profile import PARTS
from .results import Results, divide

TABLES = {}  # name of the markers: function of the results; None: not measured


def update(root, paths, newest_only):
    results = Results(paths, newest_only)
    page = os.path.join(root, "docs", "performance.md")
    with open(page, encoding="utf-8") as f:
        text = f.read()
    for name, make in TABLES.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"run.py: {page} has no markers for the table {name}")
        before, rest = text.split(begin, 1)
        text = before + begin + "\n" + (make(results) or "Not measured in this run.\n") + end + rest.split(end, 1)[1]
    with open(page, "w", encoding="utf-8") as f:
        f.write(text)
    plot.write_all(results, os.path.join(root, "docs", "images"))
    print(f"docs/performance.md: from {', '.join(results.files)}")


def part(function):
    TABLES[function.__name__] = function
    return function


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def table(header, rows):
    if not rows:
        return None
    align = ["---"] + ["---:"] * (len(header) - 1)
    lines = [header, align] + rows
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def name_of(label):
    return re.sub(r"^(connect|storm|stream|calls|local|floor|fairness|hold|memory|profile)/", "", label).replace("/", ", ")


def full_name(label):
    return label.replace("/", ", ")


def shown(results, label, target, key, digits):
    value = results.median(label, target, key)
    if value is None and target == "pgbouncer":
        value = results.median(label, "pgbouncer-session", key)
        return "" if value is None else number(value, digits) + " (session mode)"
    return number(value, digits)


def numbers(results, label, target, columns):
    return [number(results.median(label, target, key), digits) for key, digits in columns]


def value_table(results, title, labels, key, digits=0, best=max, names=name_of):
    """A column for each target, and the proxy's ratio to the best of the others."""
    targets = [target for target in (results.targets(labels) if labels else [])
               if any(shown(results, label, target, key, 0) for label in labels)]
    rows = [[names(label)] + [shown(results, label, target, key, digits) for target in targets] +
            [number(divide(results.median(label, "helios", key), results.best_peer(label, key, best)), 2)]
            for label in labels if any(results.values(label, target, key) for target in targets)]
    return table([title, *targets, "helios / best peer"], rows)


@part
def machine(results):
    lines = []
    for about in results.abouts:
        versions = ", ".join(f"{name}: {text}" for name, text in about["versions"].items()
                             if not name.startswith(("relay", "helios-")))
        remark = f" {about['remark']}." if about.get("remark") else ""  # added to the JSON by hand
        lines.append(f"{about['date']}; commit `{about['commit']}`{' with changes not committed' * about['modified']}; "
                     f"{about['cores']} cores ({about['cpu']}), Linux {about['kernel']}; {versions}; {about['rounds']} "
                     f"rounds of {about['seconds']} s; load average before the run {about['load']:.1f}.{remark}\n")
        if about.get("missing"):
            lines.append("Not measured: " + "; ".join(f"{name} ({why})" for name, why in about["missing"].items()) + ".\n")
    found = [v for cell in results.cells.values() for values in cell.values() for v in values.get("others", [])]
    if len(found) > 1:
        lines.append(f"Other programs had {statistics.median(found):.2f} cores meanwhile (median of all rounds; "
                     f"{statistics.quantiles(found, n=10)[-1]:.2f} in the worst tenth of them).\n")
    return "\n".join(lines)


@part
def targets(results):
    rows = [[goal.row, goal.target, *goal.judge(results)] for goal in goals.GOALS]
    header = ["row", "target", "measured", "verdict"]
    return "".join("| " + " | ".join(line) + " |\n" for line in [header, ["---"] * 4] + rows)


@part
def throughput(results):
    return value_table(results, "transactions a second", results.labels(*PROTOCOLS), "tps")


@part
def latency(results):
    labels = results.labels(*PROTOCOLS)
    columns = results.targets(labels) if labels else []
    rows = []
    for label in labels:
        if results.values(label, "helios", "p99_ms"):
            rows.append([name_of(label)] + [f"{shown(results, label, name, 'p50_ms', 2)} / "
                                            f"{shown(results, label, name, 'p99_ms', 2)}"
                                            .replace(" (session mode) /", " /").removeprefix(" / ") for name in columns])
    return table(["p50 / p99, ms", *columns], rows)


@part
def cpu(results):
    return value_table(results, "µs of the proxy's CPU a transaction", results.labels(*PROTOCOLS, "connect"), "cpu_us", 1, min,
                       full_name)


@part
def whole(results):
    """Proxy, server and client together: what limits the throughput of a machine that is full."""
    labels = results.labels(*PROTOCOLS, "connect")
    columns = results.targets(labels) if labels else []
    rows = []
    for label in labels:
        line = [full_name(label)]
        for name in columns:
            if name == "pgbouncer" and name not in results.cells[label]:
                name = "pgbouncer-session"
            parts = [results.median(label, name, key) for key in ("cpu_us", "server_us", "client_us")]
            line.append("" if parts[1] is None else number(sum(filter(None, parts))))
        rows.append(line)
    return table(["µs of CPU a transaction, of proxy, server and client", *columns], rows)


@part
def calls(results):
    labels = results.labels("calls")
    made = value_table(results, "system calls a transaction", labels, "calls", 1, min)
    if made and any("with_strace" in values for label in labels for values in results.cells[label].values()):
        made += "\nCounted with strace, which slows the proxy down.\n"
    return made


@part
def connect(results):
    return value_table(results, "connections a second", results.labels("connect"), "tps")


@part
def storm(results):
    rows = []
    for label in results.labels("storm"):
        for name in results.targets([label]):
            rows.append([f"{int(label.rpartition('-')[2]):,} clients, {name}", *numbers(results, label, name, (
                ("p50_ms", 0), ("p99_ms", 0), ("max_ms", 0), ("failed", 0), ("cpu_us", 0), ("client_us", 0)))])
    return table(["", "p50, ms", "p99, ms", "last, ms", "failed", "µs CPU a client, of the proxy", "of the client"], rows)


def stream_name(label):
    return re.sub(r"^stream/(\d+[MG]B)-(\w+?)((?:-copy.*)?)$", r"\1, rows of \2\3", label).replace("-copy", ", COPY").replace(
        "COPY-", "COPY ")


@part
def stream(results):
    return value_table(results, "MB a second", results.labels("stream"), "mb_per_s", names=stream_name)


@part
def stream_cost(results):
    labels = results.labels("stream")
    costs = value_table(results, "µs of the proxy's CPU a MB", labels, "cpu_us", 0, min, stream_name)
    peaks = value_table(results, "resident at most, MB", labels, "peak_mb", 1, min, stream_name)
    return costs and costs + ("\n" + peaks if peaks else "")


@part
def memory(results):
    rows = []
    for label, text in (("memory/idle", "plain"), ("memory/idle-tls", "TLS")):
        columns = results.targets(results.labels("memory"))
        for key, when in (("bytes_logged_in", "logged in"), ("bytes_used", "after a query of each")):
            if label in results.cells:
                rows.append([f"{text}, {when}"] + [number(results.median(label, name, key)) for name in columns])
    return table(["bytes for each idle client", *columns], rows)


@part
def hold(results):
    rows = []
    for label in results.labels("hold"):
        for name in results.targets([label]):
            rows.append([f"{int(name_of(label)):,} idle, {name}", *numbers(results, label, name, (
                ("alone_tps", 0), ("tps", 0), ("alone_p50_ms", 2), ("p50_ms", 2), ("alone_p99_ms", 2), ("p99_ms", 2)))])
    return table(["64 active clients", "tps alone", "tps with idle ones", "p50 alone, ms", "p50 with", "p99 alone", "p99 with"],
                 rows)


@part
def fairness(results):
    rows = []
    for label in results.labels("fairness"):
        for name in results.targets([label]):
            rows.append([f"{int(name_of(label)):,} clients, {name}", *numbers(results, label, name, (
                ("tps", 0), ("fastest_ms", 1), ("median_ms", 1), ("slowest_ms", 1), ("slowest_to_median", 2)))])
    return table(["mean wait of a client", "queries a second", "shortest, ms", "median, ms", "longest, ms",
                  "longest / median"], rows)


@part
def local(results):
    rows = []
    for label in results.labels("local"):
        one, all_of_them = (results.median(label, name, "tps") for name in ("helios-1w", "helios"))
        proxy, client = (results.median(label, "helios-1w", key) or 0 for key in ("cpu_us", "client_us"))
        most = divide(results.about["cores"] * proxy, proxy + client)
        rows.append([name_of(label).replace("x", " clients, queries in a packet: "), number(one), number(all_of_them),
                     number(divide(all_of_them, one), 2), number(most, 2)])
    return table(["queries a second that the proxy answers", "one worker", "all", "all / one", "as many cores allow"], rows)


@part
def floor(results):
    rows = []
    for label in results.labels("floor"):
        clients = name_of(label)
        rows.append([f"{clients} clients", number(results.median(label, "relay", "cpu_us"), 1),
                     number(results.median(f"simple/{clients}", "relay", "cpu_us"), 1),
                     number(results.median(f"simple/{clients}", "helios", "cpu_us"), 1)])
    return table(["µs of CPU a transaction", "relay, fixed bytes", "relay, PostgreSQL (simple)", "helios (simple)"], rows)


@part
def profile(results):
    """A table for each number of clients: what each part costs, and what the others on the machine cost beside it."""
    tables = []
    for label in results.labels("profile"):
        columns = results.targets([label])
        rows = [[text] + [number(results.median(label, name, f"part_{part}"), 1) for name in columns] for part, text, _ in PARTS]
        rows += [[f"**{text}**"] + [number(results.median(label, name, key), 1) for name in columns]
                 for text, key in (("the proxy", "cpu_us"), ("the server's processes", "server_us"), ("pgbench", "client_us"))]
        tables.append(table([f"{name_of(label)} client{'s' * (name_of(label) != '1')}: µs a transaction", *columns], rows))
    return "\n".join(tables) or None


@part
def instructions(_results):
    """What `bench/instructions.sh --record` has written."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "results", "instructions.txt")
    with open(path, encoding="utf-8") as f:
        rows = [line.split() for line in f if not line.startswith("#")]
    return table(["protocol", "instructions a query"], [[name, number(int(count))] for name, count in rows])
