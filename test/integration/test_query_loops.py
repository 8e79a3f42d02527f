"""A client that asks the same in a loop, where one query would do: counted, and told as an event."""

import pytest

from harness import wait_until
from harness.wire import bind, execute, parse, sync


def entry(proxy, name):
    return next((q for q in proxy.json("/api/v1/queries?query=" + name)["items"]), None)


def events(proxy):
    return proxy.json("/api/v1/events?kind=query.repeated")["items"]


@pytest.fixture
def proxy(make_proxy):
    return make_proxy({"analytics": {"enabled": True}})


@pytest.mark.parametrize("around", [(), ("BEGIN", "COMMIT")], ids=["alone", "each in a transaction"])
def test_a_loop_is_counted_and_told(proxy, closing, around):
    client = closing(proxy.wire())

    def loop():
        for number in range(10):
            for before in around[:1]:
                client.query(before)
            client.query(f"SELECT {number} AS q_loop")
            for behind in around[1:]:
                client.query(behind)
        return events(proxy)

    wait_until(loop)  # on a machine that is busy, an answer may be away for longer than a loop's
    event = events(proxy)[0]
    found = entry(proxy, "q_loop")
    assert event["subject"] == found["fingerprint"] and event["fields"]["query"] == "select ? as q_loop"
    assert 5 <= found["repeated"] <= found["calls"]
    for _ in range(3):
        loop()
    assert len(events(proxy)) == 1  # of one query, not more than every ten minutes
    assert all(entry(proxy, word.lower())["repeated"] == 0 for word in around)


def test_what_is_no_loop(proxy, closing):
    client = closing(proxy.wire())
    client.batch(parse("s", "SELECT $1::int AS q_pipeline"))
    client.send(*[bind("", "s", [i]) + execute() for i in range(50)], sync())
    client.until_ready()
    for _ in range(20):
        client.query("SELECT 1 AS q_slow_clients")
        proxy.advance(1)
        client.query("SELECT 1 AS q_one_of_two")
        client.query("SELECT 2 AS q_two_of_two")
    for _ in range(4):
        client.query("SELECT 1 AS q_but_four")
    found = proxy.json("/api/v1/queries")["items"]
    assert {q["query"].split()[-1]: (q["calls"], q["repeated"]) for q in found} == {
        "q_pipeline": (50, 0), "q_slow_clients": (20, 0), "q_one_of_two": (20, 0), "q_two_of_two": (20, 0), "q_but_four": (4, 0)}
    assert events(proxy) == []
