"""
What the clients of rows.py do, and what each answer must be, to the byte. Every value is the client's own: its name, the
number of its life and a count. Texts of prepared statements are shared by all on purpose, and so are statement names.
"""

import functools
import struct

from harness import wire
from rowclient import Ask, Client, Leave, Unit, error, notice

SCHEMAS = 8
TEXTS = 24
ZONES = ("UTC", "Asia/Tokyo", "Europe/Rome", "America/New_York", "Pacific/Chatham")
TEXT, INT4 = (25, -1), (23, 4)
SETUP = """
CREATE UNLOGGED TABLE soak_rows (owner text, v text);
CREATE INDEX ON soak_rows (owner);
CREATE UNLOGGED TABLE soak_copy (owner text, v text);
CREATE INDEX ON soak_copy (owner);
CREATE FUNCTION boom(what text) RETURNS text LANGUAGE plpgsql VOLATILE AS
    $$ BEGIN RAISE EXCEPTION '%', what; END $$;
GRANT ALL ON soak_rows, soak_copy TO app;
""" + "".join(f"CREATE SCHEMA s{i} AUTHORIZATION app; CREATE TABLE s{i}.whoami AS SELECT 's{i}'::text AS v; "
              f"GRANT SELECT ON s{i}.whoami TO app;" for i in range(SCHEMAS))
SHOW = ("SELECT current_setting('application_name') AS a, current_setting('TimeZone') AS z, "
        "current_setting('search_path') AS p, coalesce(current_setting('soak.own', true), '') AS o")
SHOWN = ("a", "z", "p", "o")


# ---------------------------------------------------------------- what a server says

@functools.lru_cache(1000)
def described(names, types=None, formats=None):
    types = types or (TEXT,) * len(names)
    body = [struct.pack("!H", len(names))]
    for name, (oid, size), form in zip(names, types, formats or (0,) * len(names)):
        body.append(name.encode() + b"\0" + struct.pack("!IHIhih", 0, 0, oid, size, -1, form))
    return wire.message("T", b"".join(body))


def row(*values):
    body = [struct.pack("!H", len(values))]
    for value in values:
        value = value.encode() if isinstance(value, str) else value
        body.append(struct.pack("!i", len(value)) + value)
    return wire.message("D", b"".join(body))


@functools.lru_cache(1000)
def done(tag):
    return wire.message("C", tag.encode() + b"\0")


PARSED, BOUND, CLOSED, SUSPENDED = (wire.message(k) for k in "123s")


def table(names, *rows):
    return described(names) + b"".join([row(*r) for r in rows]) + done(f"SELECT {len(rows)}")


def simple(sql, *parts, end="I"):
    return wire.query(sql), Unit(*parts, end=end)


def one(sql, **values):
    """A simple query that gives one row of texts: SELECT ... AS name."""
    return simple(sql, table(tuple(values), tuple(values.values())))


def extended(sql, names, values, result, name="", parse=True, end="I"):
    """Parse (if wanted), Bind, Describe, Execute, Sync that give one row of texts."""
    return (wire.run(sql, values, name=name, parse_too=parse) + wire.sync(),
            Unit((PARSED if parse else b"") + BOUND + table(names, result), end=end))


def all_of(asked):
    """Several (bytes, Unit) in one packet."""
    return Ask(b"".join(data for data, _ in asked), *(unit for _, unit in asked))


# ---------------------------------------------------------------- one client

class Actor(Client):
    """Client with what it remembers of its session."""

    def __init__(self, loop, address, name, rng, die):
        self.counter = 0
        self.statements = {}
        self.settings = {"application_name": name, "TimeZone": rng.choice(ZONES),
                         "search_path": f"s{rng.randrange(SCHEMAS)}, public", "soak.own": ""}
        self.leaving = False
        startup = wire.startup_packet({"user": "app", "database": "app", **{k: v for k, v in self.settings.items() if v}})
        super().__init__(loop, address, name, rng, live, startup, die)
        self.status = {k: {self.settings[k]} for k in ("application_name", "TimeZone")}

    def unique(self):
        self.counter += 1
        return f"{self.name}.{self.counter}_"  # with an end, so that none is the beginning of another

    # -- an answer of one row, asked for in one of the ways that there are

    def simple_row(self):
        a = self.unique()
        return one(f"SELECT '{a}' AS v", v=a)

    def extended_row(self):
        a = self.unique()
        return extended("SELECT $1::text AS v, $2::text AS w", ("v", "w"), [a, self.name], (a, self.name))

    def prepared_row(self):
        """Named by the client, shared with others by its text."""
        a, name = self.unique(), f"s{self.rng.randrange(10)}"
        known = self.statements.get(name)
        if known is None:
            known = self.unique() if self.rng.random() < 0.1 else f"shared {self.rng.randrange(TEXTS)}"
            self.statements[name] = known
            return extended(f"SELECT $1::text AS v, '{known}' AS s", ("v", "s"), [a], (a, known), name)
        return extended("", ("v", "s"), [a], (a, known), name, parse=False)

    def own_schema_row(self):
        """One text for all; which table it means depends on search_path."""
        a, schema = self.unique(), self.settings["search_path"].partition(",")[0]
        if self.rng.random() < 0.3:
            return one(f"SELECT v || '' AS v, '{a}' AS w FROM whoami", v=schema, w=a)
        known = "whoami" in self.statements
        self.statements["whoami"] = "whoami"
        return extended("SELECT v || '' AS v, $1::text AS w FROM whoami", ("v", "w"), [a], (schema, a), "whoami", not known)

    def settings_row(self):
        return simple(SHOW, table(SHOWN, tuple(self.settings.values())))

    def failing(self):
        a, kind = self.unique(), self.rng.randrange(4)
        if kind == 0:
            return simple(f"SELECT '{a}'::int", error("22P02", a))
        if kind == 1:
            return simple(f"SELECT public.boom('{a}') AS v", described(("v",)), error("P0001", a))
        if kind == 2:  # what stands behind it up to Sync is skipped
            data = wire.run("SELECT public.boom($1) AS v", [a]) + wire.run("SELECT $1::text AS v", [a]) + wire.sync()
            return data, Unit(PARSED + BOUND + described(("v",)), error("P0001", a))
        return simple(f"SELECT '{a}' AS v; SELECT public.boom('{a}') AS v; SELECT 1", table(("v",), (a,)) + described(("v",)),
                      error("P0001", a))

    def any_row(self):
        return self.rng.choice((self.simple_row, self.extended_row, self.prepared_row, self.prepared_row,
                                self.own_schema_row, self.settings_row, self.failing))()

    def survivable(self, asked):
        """A request without lasting effects, one at a time: the client may go on when its link was killed."""
        data, unit = asked
        return Ask(data, unit, survives=True)


# ---------------------------------------------------------------- actions

def single(c):
    yield c.survivable(c.simple_row())


def parameter(c):
    yield c.survivable(c.extended_row())


def prepared(c):
    yield all_of([c.prepared_row()])


def own_schema(c):
    yield all_of([c.own_schema_row()])


def fails(c):
    yield c.survivable(c.failing())


def several(c):
    a, b = c.unique(), c.unique()
    yield c.survivable(simple(f"SELECT '{a}' AS v; SELECT '{b}' AS v, 'x' AS w; SELECT 1 WHERE false",
                              table(("v",), (a,)) + table(("v", "w"), (b, "x")),
                              described(("?column?",), (INT4,)) + done("SELECT 0")))


def pipeline(c):
    yield all_of([c.any_row() for _ in range(c.rng.choice((2, 4, 4, 16, 64)))])


def forget(c):
    """A name that means another text from now on."""
    if c.statements:
        name = c.rng.choice(sorted(c.statements))
        del c.statements[name]
        yield all_of([(wire.close("S", name) + wire.sync(), Unit(CLOSED)), c.prepared_row()])


def formats(c):
    """One statement for all, in text by one client and in binary by the next."""
    number, form = c.rng.randrange(1 << 30), c.rng.randrange(2)
    data = (wire.parse("", "SELECT $1::int4 + 1 AS v") + wire.bind("", "", [str(number)], result_formats=[form])
            + wire.describe("P") + wire.execute() + wire.sync())
    value = struct.pack("!i", number + 1) if form else str(number + 1)
    yield c.survivable((data, Unit(PARSED + BOUND + described(("v",), (INT4,), (form,)) + row(value) + done("SELECT 1"))))


def notices(c):
    a = c.unique()
    yield c.survivable(simple(f"DO $$ BEGIN RAISE NOTICE '{a}'; END $$", notice(a), done("DO")))


def shows(c):
    yield c.survivable(c.settings_row())


def sets(c):
    """SET, in any of its ways, for good or rolled back. What the proxy tells of it meanwhile is the old or the new."""
    name = c.rng.choice(tuple(c.settings))
    value = {"TimeZone": c.rng.choice(ZONES), "search_path": f"s{c.rng.randrange(SCHEMAS)}"}.get(name, c.unique())
    old = c.settings[name]
    if name in c.status:
        c.status[name] = {old, value}
    text, tag = f"SET {name} = '{value}'", done("SET")
    way = c.rng.randrange(4)
    if way == 0:
        yield all_of([simple(text, tag)])
    elif way == 1:
        yield all_of([simple(f"SELECT set_config('{name}', '{value}', false) AS v", table(("v",), (value,)))])
    elif way == 2:
        yield all_of([simple("BEGIN", done("BEGIN"), end="T"), simple(text, tag, end="T"), simple("COMMIT", done("COMMIT"))])
    else:
        yield all_of([simple("BEGIN", done("BEGIN"), end="T"), simple(text, tag, end="T")])
        yield all_of([simple("ROLLBACK", done("ROLLBACK"))])
        value = old
    c.settings[name] = value
    yield all_of([c.settings_row()])
    if name in c.status:
        c.status[name] = {value}


def transaction(c):
    """Statement by statement, or all at once; what was done in it is there until its end, and behind it or not."""
    a, commits = c.unique(), c.rng.random() < 0.5
    begin = c.rng.choice(("BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL REPEATABLE READ"))
    tag = "START TRANSACTION" if begin[0] == "S" else "BEGIN"
    steps = [simple(begin, done(tag), end="T") if c.rng.random() < 0.7 else
             (wire.run(begin) + wire.sync(), Unit(PARSED + BOUND + wire.message("n") + done(tag), end="T")),
             simple(f"SELECT set_config('soak.local', '{a}', true) AS v", table(("v",), (a,)), end="T"),
             simple(f"INSERT INTO public.soak_rows VALUES ('{a}', '{a}')", done("INSERT 0 1"), end="T")]
    for _ in range(c.rng.randrange(3)):
        text = "SELECT current_setting('soak.local') AS v, v AS w FROM public.soak_rows WHERE owner = $1"
        steps.append((wire.run(text, [a]) + wire.sync(), Unit(PARSED + BOUND + own_row(c, a) + done("SELECT 1"), end="T")))
    end = "COMMIT" if commits else "ROLLBACK"
    steps.append(simple(end, done(end)))
    if c.rng.random() < 0.5:
        for step in steps:
            yield all_of([step])
    else:
        yield all_of(steps)
    if commits:
        yield all_of([simple(f"DELETE FROM public.soak_rows WHERE owner = '{a}'", done("DELETE 1"))])
    elif c.rng.random() < 0.5:
        yield all_of([one(f"SELECT count(*)::text AS v FROM public.soak_rows WHERE owner = '{a}'", v="0")])


def own_row(c, a):
    """w is a column of a table, and described as one."""
    oid = c.loop.rows_oid
    return wire.message("T", struct.pack("!H", 2) + b"v\0" + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
                        + b"w\0" + struct.pack("!IHIhih", oid, 2, 25, -1, -1, 0)) + row(a, a)


def failed_transaction(c):
    a = c.unique()
    steps = [simple("BEGIN", done("BEGIN"), end="T"), simple(f"SELECT public.boom('{a}') AS v", described(("v",)),
                                                             error("P0001", a), end="E"),
             simple(f"SELECT '{a}'", error("25P02"), end="E"),
             simple("COMMIT", done("ROLLBACK"))]
    if c.rng.random() < 0.5:
        yield all_of(steps)
    else:
        for step in steps:
            yield all_of([step])


def empty_transaction(c):
    end = c.rng.choice(("COMMIT", "ROLLBACK"))
    steps = [simple("BEGIN", done("BEGIN"), end="T"), simple(end, done(end))]
    if c.rng.random() < 0.5:
        yield all_of(steps)
    else:
        for step in steps:
            yield all_of([step])


def portal(c):
    """Read in pieces, in a transaction."""
    a, first = c.unique(), c.rng.randrange(1, 9)
    rows = [row(f"{a}.{i}") for i in range(1, 11)]
    steps = [simple("BEGIN", done("BEGIN"), end="T"),
             (wire.run("SELECT $1 || '.' || i AS v FROM generate_series(1, 10) i", [a], limit=first) + wire.sync(),
              Unit(PARSED + BOUND + described(("v",)) + b"".join(rows[:first]) + SUSPENDED, end="T")),
             (wire.execute() + wire.sync(), Unit(b"".join(rows[first:]) + done(f"SELECT {10 - first}"), end="T")),
             simple("COMMIT", done("COMMIT"))]
    if c.rng.random() < 0.5:
        yield all_of(steps)
    else:
        for step in steps:
            yield all_of([step])


def copies_out(c):
    a, count = c.unique(), c.rng.randrange(1, 1000)
    lines = b"".join([wire.copy_data(f"{a}\t{i}\n") for i in range(count)])
    yield all_of([simple(f"COPY (SELECT '{a}', i FROM generate_series(0, {count - 1}) i) TO STDOUT",
                         wire.message("H", struct.pack("!bHHH", 0, 2, 0, 0)) + lines + wire.copy_done()
                         + done(f"COPY {count}"))])


def copies_in(c):
    a, count, fails = c.unique(), c.rng.randrange(1, 300), c.rng.random() < 0.2
    begins = wire.message("G", struct.pack("!bHHH", 0, 2, 0, 0))
    lines = b"".join([wire.copy_data(f"{a}\t{i}\n") for i in range(count)])
    copy = wire.query("COPY public.soak_copy FROM STDIN")
    if fails:
        unit = Unit(begins, error("57014", a), end="E")
        whole = copy, lines + wire.copy_fail(a), unit
    else:
        whole = copy, lines + wire.copy_done(), Unit(begins + done(f"COPY {count}"), end="T")
    yield all_of([simple("BEGIN", done("BEGIN"), end="T")])
    if c.rng.random() < 0.5:
        yield Ask(whole[0] + whole[1], whole[2])
    else:
        yield Ask(whole[0], Unit(begins, end=None))
        if not fails:
            yield Ask(whole[1], Unit(done(f"COPY {count}"), end="T"))
        else:
            yield Ask(whole[1], Unit(error("57014", a), end="E"))
    if not fails:
        yield all_of([simple(f"SELECT count(*)::text AS n, min(v) AS v FROM public.soak_copy WHERE owner = '{a}'",
                             table(("n", "v"), (str(count), "0")), end="T")])
    yield all_of([simple("ROLLBACK", done("ROLLBACK"))])


def large_answer(c, most):
    a = c.unique()
    if c.rng.random() < 0.5:  # one row
        times = c.rng.randrange(1, most // (len(a) + 1))
        return one(f"SELECT repeat('{a},', {times}) AS v", v=(a + ",") * times)
    count = c.rng.randrange(1, most // 60)
    rows = [row(f"{a}.{i}") for i in range(count)]
    chunks = [b"".join(rows[i:i + 500]) for i in range(0, count, 500)]
    return simple(f"SELECT '{a}.' || i AS v FROM generate_series(0, {count - 1}) i", described(("v",)), *chunks,
                  done(f"SELECT {count}"))


def large(c):
    yield c.survivable(large_answer(c, c.rng.choice((20_000, 200_000, 2_000_000))))


def sends_much(c):
    a, times = c.unique(), c.rng.randrange(1, 20000)
    value = (a + ",") * times
    yield c.survivable(extended("SELECT $1::text AS v", ("v",), [value], (value,)))


def reads_slowly(c):
    """Answers pile up, here and on the way; meanwhile others must get theirs."""
    asked = [large_answer(c, 300_000)] + [c.any_row() for _ in range(3)]
    yield Ask(b"".join(d for d, _ in asked), *(u for _, u in asked), pause=c.rng.choice((0.01, 0.05, 0.3)))


def cancels(c):
    """The query is over before the cancel comes, or it is hit; nobody else's is, and nothing of ours behind it."""
    a, seconds = c.unique(), c.rng.choice((0, 0, 0.002, 0.01, 3))
    sleeping = one(f"SELECT pg_sleep({seconds})::text || '{a}' AS v", v=a)
    delay = c.rng.choice((0, 0, 0.001, 0.005, 0.02))
    way = c.rng.randrange(4)
    if way == 0:
        yield Ask(sleeping[0], sleeping[1], cancel=delay, survives=True)
    elif way == 1:
        rows = [c.simple_row(), c.extended_row(), sleeping, c.simple_row()]
        yield Ask(b"".join(d for d, _ in rows), *(u for _, u in rows), cancel=delay)
    elif way == 2:
        yield all_of([simple("BEGIN", done("BEGIN"), end="T")])
        asked = Ask(sleeping[0], Unit(table(("v",), (a,)), end="T"), cancel=delay)
        yield asked
        cancelled = asked.units[0].outcome == "cancelled"
        yield all_of([simple("COMMIT", done("ROLLBACK" if cancelled else "COMMIT"))])
    else:
        yield Ask(b"", cancel=0)  # nothing runs: it does nothing
    yield all_of([c.simple_row()])


def cancels_nobody(c):
    """A key that is nobody's, while our own query runs."""
    pid, key = c.key
    c.loop.stray_cancel((pid, bytes([key[0] ^ 1]) + key[1:]))
    yield all_of([c.simple_row()])


def pins(c):
    """A temporary table keeps the link; with so few of them only for a moment."""
    a = c.unique()
    yield all_of([simple(f"CREATE TEMP TABLE mine AS SELECT '{a}'::text AS v", done("SELECT 1"))])
    for _ in range(2):
        yield all_of([one("SELECT v || '' AS v FROM mine", v=a)])
    raise Leave(c.rng.choice(("fin", "terminate", "rst")))


def listens(c):
    a = c.unique()
    c.channel = "own_" + c.name.replace(".", "_")
    yield all_of([simple(f"LISTEN {c.channel}", done("LISTEN"))])
    yield all_of([simple(f"NOTIFY {c.channel}, '{a}'", done("NOTIFY"))])
    yield all_of([c.simple_row()])
    assert c.heard == [a], f"heard {c.heard} instead of {a}"
    raise Leave("terminate")


ACTIONS = {single: 60, parameter: 60, prepared: 120, own_schema: 40, fails: 20, several: 15, pipeline: 30, forget: 15,
           formats: 20, notices: 10, shows: 30, sets: 25, transaction: 40, failed_transaction: 10, empty_transaction: 8,
           portal: 8, copies_out: 4, copies_in: 4, large: 6, sends_much: 4, reads_slowly: 2, cancels: 8,
           cancels_nobody: 2, pins: 1, listens: 1}


def live(c):
    """The life of a client: some actions, and it goes."""
    actions, weights = list(ACTIONS), list(ACTIONS.values())
    for i in range(c.rng.choice((3, 20, 100, 500))):
        if c.loop.stopping:
            break
        if i == 0 and c.name.endswith(".1"):  # none is left to chance, however slow the machine
            action = actions[c.index % len(actions)]
            c.loop.count("first lives")
        else:
            action = c.rng.choices(actions, weights)[0]
        c.history.append((c.since, action.__name__, b""))
        c.loop.count(action.__name__)
        yield from action(c)
    raise Leave(c.rng.choice(("terminate", "terminate", "fin", "rst")))
