"""The targets of issue 4 ("Faster than every peer, and close to the limit"), and what a run says of each."""

from .cells import PROTOCOLS
from .results import divide

LEAST, MOST = "at least", "at most"


class Goal:
    """`findings` is a function of the results: (what, number or None, LEAST or MOST, bound) of each cell. A cell without
    a bound is smaller than the target asks for: its number is shown and not judged."""

    def __init__(self, row, target, findings):
        self.row, self.target, self.findings = row, target, findings

    def judge(self, results):
        """(what was measured, the verdict)."""
        found = [finding for finding in self.findings(results) if finding[1] is not None]
        if not found:
            return "", "not measured"
        text = ", ".join(f"{what} {value:,.{0 if value >= 100 else 2}f}" for what, value, _, _ in found)
        judged = [finding for finding in found if finding[3] is not None]
        missed = [what for what, value, way, bound in judged if (value < bound if way == LEAST else value > bound)]
        if not judged:
            return text, "not measured at that size"
        if not missed:
            return text, "**met**"
        return text, "**missed**" if len(missed) == len(judged) else "missed: " + ", ".join(missed)


def counts(r, least, most=10 ** 9):
    """Of clients, as far as they were measured."""
    found = {int(label.rpartition("/")[2]) for label in r.labels(*PROTOCOLS)}
    return sorted(n for n in found if least <= n <= most)


def each(r, least, most=10 ** 9):
    for clients in counts(r, least, most):
        for protocol in PROTOCOLS:
            yield f"{protocol} {clients}", f"{protocol}/{clients}"


def tps_to_peer(r, target, least, most, bound):
    for what, label in each(r, least, most):
        yield what, divide(r.median(label, target, "tps"), r.best_peer(label, "tps")), LEAST, bound


def tps_to(r, target, other, least, most, bound):
    for what, label in each(r, least, most):
        yield what, divide(r.median(label, target, "tps"), r.median(label, other, "tps")), LEAST, bound


def p99_to_peer(r):
    for what, label in each(r, 16):
        yield what, divide(r.median(label, "helios", "p99_ms"), r.best_peer(label, "p99_ms", min)), MOST, 1.0


def cpu_to(r, target, other, bound):
    for what, label in each(r, 16):
        theirs = r.pgbouncer(label, "cpu_us") if other == "pgbouncer" else r.median(label, other, "cpu_us")
        yield what, divide(r.median(label, target, "cpu_us"), theirs), MOST, bound


def calls_of(r, target):
    for clients, bound in ((16, 1.5), (64, 1.0)):
        for protocol in PROTOCOLS:
            yield f"{protocol} {clients}", r.median(f"calls/{protocol}/{clients}", target, "calls"), MOST, bound


def workers(r):
    for label in r.labels("local"):
        ratio = divide(r.median(label, "helios", "tps"), r.median(label, "helios-1w", "tps"))
        yield f"{label.rpartition('x')[2]} in a packet", ratio, LEAST, 1.8


def connects(r, other, bound):
    for method in ("trust", "scram", "tls"):
        label = f"connect/{method}"
        theirs = r.best_peer(label, "tps") if other == "peer" else r.median(label, other, "tps")
        yield method, divide(r.median(label, "helios", "tps"), theirs), LEAST, bound


def storms(r):
    for label in r.labels("storm"):
        count = int(label.rpartition("-")[2])
        yield f"{count:,} clients, ms", r.median(label, "helios", "p50_ms"), MOST, 1000 if count >= 10000 else None


def streams(r):
    for label in r.labels("stream"):
        ratio = divide(r.median(label, "helios", "mb_per_s"), r.median(label, "relay", "mb_per_s"))
        yield label.partition("/")[2], ratio, LEAST, 0.95


def stream_memory(r):
    """A hundred times as much data through the same memory."""
    for row in ("100B", "1MB"):
        few, much = (r.median(f"stream/{total}-{row}", "helios", "peak_mb") for total in ("10MB", "1GB"))
        yield f"rows of {row}, 1 GB / 10 MB", divide(much, few), MOST, 1.1


def idle(r):
    yield "plain", r.median("memory/idle", "helios", "bytes_used"), MOST, 700
    yield "TLS", r.median("memory/idle-tls", "helios", "bytes_used"), MOST, 3000


def held(r):
    for label in r.labels("hold"):
        count = int(label.partition("/")[2])
        for key in ("p50", "p99"):
            ratio = divide(r.median(label, "helios", f"{key}_ms"), r.median(label, "helios", f"alone_{key}_ms"))
            yield f"{key} with {count:,} idle / alone", ratio, MOST, 1.1 if count >= 50000 else None


def fair(r):
    for label in r.labels("fairness"):
        count = int(label.partition("/")[2])
        ratio = r.median(label, "helios", "slowest_to_median")
        yield f"{count:,} clients", ratio, MOST, 1.5 if count >= 1000 else None


GOALS = [
    Goal("select-only, 16 clients", "1.10 times the best peer", lambda r: tps_to_peer(r, "helios", 16, 63, 1.10)),
    Goal("select-only, 64 clients and more", "1.25 times the best peer", lambda r: tps_to_peer(r, "helios", 64, 10 ** 9, 1.25)),
    Goal("p99 of the same, from 16 clients on", "never worse than the best peer's", p99_to_peer),
    Goal("select-only, 1 and 4 clients", "at least the best peer", lambda r: tps_to_peer(r, "helios", 1, 15, 1.0)),
    Goal("the same, beside the ideal relay", "0.97 of it", lambda r: tps_to(r, "helios", "relay", 1, 15, 0.97)),
    Goal("the same, with adaptive spinning", "1.25 times the best peer", lambda r: tps_to_peer(r, "helios", 1, 15, 1.25)),
    Goal("shared links, 16 clients", "1.3 times the best peer", lambda r: tps_to_peer(r, "helios-shared", 16, 63, 1.3)),
    Goal("shared links, 64 clients and more", "twice the best peer",
         lambda r: tps_to_peer(r, "helios-shared", 64, 10 ** 9, 2.0)),
    Goal("shared links, 64 clients and more", "1.5 times a direct connection",
         lambda r: tps_to(r, "helios-shared", "direct", 64, 10 ** 9, 1.5)),
    Goal("CPU of the proxy, from 16 clients on", "at most the ideal relay's", lambda r: cpu_to(r, "helios", "relay", 1.0)),
    Goal("CPU of the proxy, from 16 clients on", "at most 0.75 of PgBouncer's",
         lambda r: cpu_to(r, "helios", "pgbouncer", 0.75)),
    Goal("CPU with shared links, from 16 clients on", "at most 0.5 of PgBouncer's",
         lambda r: cpu_to(r, "helios-shared", "pgbouncer", 0.5)),
    Goal("system calls a transaction", "under 1.5 at 16 clients, under 1 at 64", lambda r: calls_of(r, "helios")),
    Goal("CPU with io_uring, from 16 clients on", "at most the ideal relay's (by epoll)",
         lambda r: cpu_to(r, "helios-uring", "relay", 1.0)),
    Goal("CPU with io_uring, from 16 clients on", "at most 0.75 of PgBouncer's",
         lambda r: cpu_to(r, "helios-uring", "pgbouncer", 0.75)),
    Goal("system calls with io_uring", "under 1.5 at 16 clients, under 1 at 64", lambda r: calls_of(r, "helios-uring")),
    Goal("system calls with shared links", "under 1.5 at 16 clients, under 1 at 64", lambda r: calls_of(r, "helios-shared")),
    Goal("two workers against one, proxy the bottleneck", "1.8 times as much", workers),
    Goal("connect per transaction", "1.25 times the best peer", lambda r: connects(r, "peer", 1.25)),
    Goal("connect per transaction", "25 times a direct connection", lambda r: connects(r, "direct", 25)),
    Goal("a storm of TLS clients", "p50 within 1 s for 10,000", storms),
    Goal("result streams, COPY in and out", "0.95 of the ideal relay", streams),
    Goal("memory during them", "constant", stream_memory),
    Goal("bytes for an idle client", "at most 700 plain, 3,000 with TLS", idle),
    Goal("50,000 idle clients held", "64 others keep their latency (within a tenth)", held),
    Goal("fairness: slowest client's mean wait to the median's", "at most 1.5", fair),
]
