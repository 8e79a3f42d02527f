"""The cells of a run: which measurements, for which targets, how often; and presets of both."""

from . import many, measure, profile

MB = 1000 * 1000
PROTOCOLS = ("simple", "extended", "prepared")
ROWS = (*PROTOCOLS, "connect", "storm", "stream", "calls", "memory", "hold", "fairness", "local", "floor", "profile")
ON_DEMAND = ("hold",)

# What --preset stands for; options on the command line go first.
PRESETS = {
    "table": {  # the table, most important first; some 30 minutes on a quiet machine
        "only": "simple,extended,prepared,calls,connect,storm,memory,fairness,local,stream,floor,profile",
        "targets": "direct,relay,helios,helios-shared,helios-uring,pgbouncer,pgbouncer-new,odyssey,pgcat",
        "clients": "64,16,256,1,4", "calls_clients": "16,64", "rounds": 5, "few_rounds": 3, "seconds": 1, "storm": "2000,10000",
    },
    "long": {  # all that there is, for a night
        "only": ",".join(ROWS),
        "targets": "direct,relay,relay-unix,helios,helios-1w,helios-unix,helios-epoll,helios-uring,helios-shared,pgbouncer,"
                   "pgbouncer-new,odyssey,pgcat,rust",
        "clients": "1,4,16,64,256,1000", "rounds": 7, "few_rounds": 5, "seconds": 4, "storm": "2000,10000",
    },
    "quick": {  # some cells, to see whether a change helps; some 5 minutes
        "only": "simple,extended,prepared,connect,stream,calls,memory", "clients": "1,16,64", "rounds": 3,
        "few_rounds": 1, "seconds": 1, "storm": "500",
    },
    "smoke": {  # each row once: does the harness work?
        "only": ",".join(ROWS), "clients": "4", "rounds": 1, "few_rounds": 1, "seconds": 1, "storm": "100",
        "idle_clients": 200, "hold": 500, "fair_clients": 100, "big": 100,
    },
}
STANDARD = {"only": ",".join(row for row in ROWS if row not in ON_DEMAND),
            "targets": "direct,relay,helios,helios-1w,helios-shared,pgbouncer,pgbouncer-new,odyssey,pgcat,rust",
            "clients": "1,4,16,64,256,1000", "rounds": 5, "few_rounds": 3, "seconds": 4, "storm": "2000",
            "idle_clients": 2000, "hold": 50000, "fair_clients": 1000, "big": 1000}


class Cell:
    def __init__(self, row, label, rounds, function, wanted=lambda target: True):
        self.row, self.label, self.rounds, self.function, self.wanted = row, label, rounds, function, wanted


def pools(target):
    """Shares server connections: can have more clients than the server takes."""
    return target.server_is_ours and not target.link_for_each


def select_cells(a):
    for clients in a.clients:
        for protocol in PROTOCOLS:
            yield Cell(protocol, f"{protocol}/{clients}", a.rounds,
                       lambda t, p=protocol, c=clients: measure.select_only(t, a.seconds, p, c))


def connect_cells(a):
    for method in ("trust", "scram", "tls"):
        yield Cell("connect", f"connect/{method}", a.few_rounds,
                   lambda t, m=method: measure.connect_each(t, a.seconds, m, 4))
    for count in a.storm:
        yield Cell("storm", f"storm/tls-{count}", a.few_rounds if count < 10000 else 1, lambda t, c=count: many.storm(t, c), pools)


def stream_cells(a):
    big = f"{a.big // 1000}GB" if a.big % 1000 == 0 else f"{a.big}MB"
    for label, row, total, way in (("10MB-100B", 100, 10, "rows"), ("10MB-1MB", MB, 10, "rows"),
                                   (f"{big}-100B", 100, a.big, "rows"), (f"{big}-1MB", MB, a.big, "rows"),
                                   ("200MB-100B-copy-out", 100, 200, "out"), ("200MB-100B-copy-in", 100, 200, "in")):
        yield Cell("stream", f"stream/{label}", a.few_rounds,
                   lambda t, r=row, n=total, w=way: measure.stream(t, a.seconds, r, n * MB, w))


def count_cells(a):
    """Numbers that don't hang on who else is busy: once each."""
    for protocol in PROTOCOLS:
        for clients in a.calls_clients:
            yield Cell("calls", f"calls/{protocol}/{clients}", 1,
                       lambda t, p=protocol, c=clients: measure.system_calls(t, max(1, a.seconds // 2), p, c),
                       lambda t: t.server_is_ours)
    for clients in a.clients:
        if clients in (1, 16, 64):
            yield Cell("profile", f"profile/{clients}", a.few_rounds,
                       lambda t, c=clients: profile.of_select_only(t, a.seconds, "simple", c),
                       lambda t: t.name in ("relay", "helios", "helios-shared", "helios-uring", "pgbouncer-new"))
    for label, tls in (("idle", False), ("idle-tls", True)):
        yield Cell("memory", f"memory/{label}", 1, lambda t, s=tls: many.idle_memory(t, a.idle_clients, s), pools)


def crowd_cells(a):
    yield Cell("fairness", f"fairness/{a.fair_clients}", a.few_rounds,
               lambda t: many.fairness(t, max(3, a.seconds), a.fair_clients), pools)
    for depth in (1, 50):
        yield Cell("local", f"local/64x{depth}", a.few_rounds,
                   lambda t, d=depth: many.local_answers(t, a.seconds, 64, d), lambda t: t.answers_itself)
    for clients in a.clients:
        if clients <= 64:
            yield Cell("floor", f"floor/{clients}", a.few_rounds, lambda t, c=clients: many.floor(t, a.seconds, c),
                       lambda t: t.name == "relay")
    yield Cell("hold", f"hold/{a.hold}", 1, lambda t: many.held_latency(t, max(2, a.seconds), a.hold, 64), pools)


def cells(a):
    """Everything that was asked for, the rows in the order in which they were named."""
    found = [cell for make in (select_cells, connect_cells, stream_cells, count_cells, crowd_cells) for cell in make(a)
             if cell.row in a.rows]
    return sorted(found, key=lambda cell: a.rows.index(cell.row))
