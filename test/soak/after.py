"""What must be true when the clients of a soak have gone, and how it is told."""

import os

from harness import ServerError, wait_until


class Results:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, run):
        try:
            run()
        except Exception as e:  # noqa: BLE001
            self.failed += 1
            print(f"FAILED {name}: {str(e)[:6000]}", flush=True)
        else:
            self.passed += 1
            print(f"ok     {name}", flush=True)

    def last_line(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def true(condition, text):
    if not condition:
        raise AssertionError(text)


def nothing_is_left(proxy):
    def left():
        m = {name: proxy.metric(name) for name in ("clients", "clients_waiting", "links_pinned")}
        m["active"] = sum(p["active_connections"] for p in proxy.pools())
        return {name: value for name, value in m.items() if value}

    wait_until(lambda: not left(), 30, lambda: f"left over: {left()}")


def no_stray_backend(proxy, postgres, links):
    def view():
        idle = sum(p["idle_connections"] for p in proxy.pools())
        rows = postgres.sql("SELECT pid, state, query FROM pg_stat_activity WHERE usename = 'app'")
        return idle, rows

    def fine():
        idle, rows = view()
        return len(rows) == idle <= links and all(r[1] == "idle" for r in rows)

    wait_until(fine, 30, lambda: f"idle links, server connections: {view()}")


def descriptors_are_back(proxy, before, links):
    wait_until(lambda: proxy.descriptors() <= before + links + 4, 30,
               lambda: f"{proxy.descriptors()} descriptors now, {before} at the start")


def memory_is_back(proxy, before):
    limit = before + ((64 << 20) if proxy.measures_memory else (900 << 20))  # ASan keeps what was freed for a while
    true(proxy.rss() <= limit, f"VmRSS {proxy.rss() >> 20} MB, {before >> 20} MB at the start")


def still_serves(proxy):
    """The server may still be on its way up from the last crash."""
    def serves():
        try:
            with proxy.wire() as client:
                return client.value("SELECT 'still here'") == "still here"
        except ServerError as e:
            if e.code != "57P03":
                raise
            return False

    wait_until(serves, 60, lambda: "the server does not come back")


def nobody_is_left(postgres):
    wait_until(lambda: not postgres.backends("usename = 'app'"), 20)


def all_is_well(results, proxy, postgres, links, before):
    """before: (descriptors, VmRSS) at the start. At its end the proxy is stopped."""
    descriptors, rss = before
    results.check("the proxy lives", proxy.check_alive)
    results.check("it still serves", lambda: still_serves(proxy))
    results.check("no client, link or waiting one is left", lambda: nothing_is_left(proxy))
    results.check("no stray server connection", lambda: no_stray_backend(proxy, postgres, links))
    results.check("descriptors", lambda: descriptors_are_back(proxy, descriptors, links))
    results.check("memory", lambda: memory_is_back(proxy, rss))
    results.check("it ends with 0, without a sanitizer's report", proxy.stop)
    results.check("the server has nobody left", lambda: nobody_is_left(postgres))


def keep_log(proxy, seed):
    path = f"/tmp/soak-{seed}-{os.getpid()}.log"
    with open(path, "w", encoding="utf-8") as f:
        f.write(proxy.log())
    print(f"the proxy's log: {path}")
