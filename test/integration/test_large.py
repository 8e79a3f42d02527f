"""Messages larger than any buffer, results larger than memory should be; bounded by VmRSS, never by time."""

import socket
import threading

import pytest
from harness import wait_until, wire
from harness.wire import bind, copy_data, copy_done, execute, parse, query, rows, run, sync

MB = 1 << 20


def resident(target):
    return target.proxy.rss() if target.proxy else 0


def assert_bounded(target, before, limit):
    """What the proxy holds more than before is less than limit."""
    if target.proxy and target.proxy.measures_memory:
        assert target.proxy.rss() - before < limit


def drain(client):
    """Reads and forgets, header by header; returns the sizes of DataRow bodies and the last status byte."""
    sizes, buffer = [], bytearray()
    client.socket.settimeout(60)
    skip = 0
    while True:
        if skip:
            got = client.socket.recv(min(skip, 1 << 20))
            assert got
            skip -= len(got)
            continue
        while len(buffer) < 5:
            got = client.socket.recv(5 - len(buffer))
            assert got
            buffer += got
        kind, length = chr(buffer[0]), int.from_bytes(buffer[1:5], "big") - 4
        buffer.clear()
        if kind == "D" or kind == "d":
            sizes.append(length)
        if kind == "Z":
            return sizes, client.socket.recv(1)
        assert kind != "E", "an error"
        skip = length


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_row_of_256_megabytes(target, protocol):
    """One DataRow streams through: the proxy may hold some buffers of it, not the row."""
    client = target.wire()
    client.query("SELECT 1")
    before = resident(target)
    text = "SELECT repeat('x', 268435456)"
    client.send(query(text) if protocol == "simple" else run(text) + sync())
    sizes, status = drain(client)
    assert sizes == [268435456 + 6] and status == b"I"
    assert_bounded(target, before, 32 * MB)
    assert client.value("SELECT 1") == "1"


def test_many_rows(target):
    client = target.wire()
    client.query("SELECT 1")
    before = resident(target)
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))
    sizes, _ = drain(client)
    assert len(sizes) == 200000
    assert_bounded(target, before, 32 * MB)


def test_many_small_rows(target):
    client = target.wire()
    client.send(query("SELECT i FROM generate_series(1, 500000) i"))
    sizes, _ = drain(client)
    assert len(sizes) == 500000


def test_copy_out_of_200_megabytes(target):
    client = target.wire()
    client.query("SELECT 1")
    before = resident(target)
    client.send(query("COPY (SELECT repeat('x', 100000) FROM generate_series(1, 2000)) TO STDOUT"))
    sizes, _ = drain(client)
    assert len(sizes) == 2000
    assert_bounded(target, before, 32 * MB)


def test_copy_in_of_100_megabytes(target, table):
    client = target.wire()
    client.query("SELECT 1")
    before = resident(target)
    client.send(query(f"COPY {table} FROM STDIN"))
    client.read_until("G")
    line = b"%d\t" + b"x" * 1_000_000 + b"\n"
    for i in range(100):
        client.send(copy_data(line % (i + 100)))
    client.send(copy_done())
    assert wire.tags(client.until_ready()) == ["COPY 100"]
    assert_bounded(target, before, 32 * MB)


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_048_575, 1_048_577, 3_000_000])
def test_sizes_around_buffers(target, size):
    """A query, a Parse, a Bind and a row of about the size of a buffer, less a header, more a header."""
    client = target.wire()
    for delta in (-12, -5, -1, 0, 1, 5, 12):
        n = size + delta
        text = "SELECT length('" + "x" * n + "')"
        assert client.value(text) == str(n)
        assert rows(client.batch(run(text))) == [[str(n)]]
        assert rows(client.batch(run("SELECT $1::text", ["y" * n]))) == [["y" * n]]


def test_a_bind_of_64_megabytes(target):
    client = target.wire()
    client.query("SELECT 1")
    before = resident(target)
    client.batch(parse("s", "SELECT length($1::text)"))
    assert rows(client.batch(bind("", "s", ["x" * (64 * MB)]), execute())) == [[str(64 * MB)]]
    assert_bounded(target, before, 32 * MB)


def test_a_query_of_32_megabytes(target):
    client = target.wire()
    client.query("SELECT 1")
    before = resident(target)
    assert client.value("SELECT length('" + "x" * (32 * MB) + "')") == str(32 * MB)
    assert_bounded(target, before, 96 * MB)
    assert client.value("SELECT 1") == "1"


def test_a_client_that_never_reads(target):
    """Reading from the server stops: neither memory nor the others suffer."""
    lazy, other = target.raw(), target.wire()
    lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.login({"user": "app", "database": "app", "application_name": "lazy"})
    other.query("SELECT 1")
    before = resident(target)
    lazy.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
    wait_until(lambda: target.postgres.backends("wait_event = 'ClientWrite'"))
    for i in range(20):
        assert other.value(f"SELECT {i}") == str(i)
    assert_bounded(target, before, 16 * MB)
    lazy.abort()
    wait_until(lambda: not target.postgres.backends("wait_event = 'ClientWrite'"))


def test_many_clients_that_never_read(target):
    lazies = []
    other = target.wire()
    other.query("SELECT 1")
    before = resident(target)
    for _ in range(10):
        lazy = target.wire()
        lazy.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 10000)"))
        lazies.append(lazy)
    wait_until(lambda: len(target.postgres.backends("wait_event = 'ClientWrite'")) == 10)
    assert other.value("SELECT 1") == "1"
    assert_bounded(target, before, 32 * MB)
    for lazy in lazies:
        lazy.abort()
    wait_until(lambda: not target.postgres.backends("wait_event = 'ClientWrite'"))


def test_a_client_that_writes_and_never_reads(target):
    """Queries without end, answers unread: its writing must be stopped some time, and memory stay bounded."""
    other = target.wire()
    other.query("SELECT 1")
    before = resident(target)
    client = target.wire()
    client.socket.settimeout(1)
    sent, part = 0, query("SELECT repeat('x', 10000)") * 1000
    try:
        while sent < 512 * MB:
            client.socket.sendall(part)
            sent += len(part)
    except TimeoutError:
        pass
    assert sent < 64 * MB, "the writer was never stopped"
    assert other.value("SELECT 1") == "1"
    assert_bounded(target, before, 32 * MB)
    client.abort()


def test_pipeline_of_bytes_in_flight_both_ways(target):
    """64 MB to the server and 64 MB back in one pipeline."""
    client = target.wire()
    text = "z" * 640_000
    parts = run("SELECT $1::text", [text]) + sync()
    sender = threading.Thread(target=lambda: [client.socket.sendall(parts) for _ in range(100)])
    client.socket.settimeout(60)
    sender.start()
    got = client.until_ready(100)
    sender.join()
    assert len(rows(got)) == 100 and all(r == [text] for r in rows(got))


def test_wide_rows(target):
    client = target.wire()
    (row,) = client.rows("SELECT " + ", ".join(f"{i} AS c{i}" for i in range(1600)))
    assert row == [str(i) for i in range(1600)]


@pytest.mark.slow
def test_a_row_of_nearly_one_gigabyte(target):
    client = target.wire()
    before = resident(target)
    client.send(query("SELECT repeat('x', 1073741000)"))
    sizes, _ = drain(client)
    assert sizes == [1073741000 + 6]
    assert_bounded(target, before, 32 * MB)


def test_memory_comes_back(make_proxy, closing):
    """Two hundred clients with large traffic leave nothing behind."""
    proxy = make_proxy({"pool": {"max_connections": 5}})

    def burst():
        clients = [proxy.wire() for _ in range(100)]
        for client in clients:
            client.send(run("SELECT $1::text", ["x" * 50_000]), sync())
        for client in clients:
            client.until_ready()
            client.close()
        wait_until(lambda: proxy.metric("clients") == 0)

    burst()
    first = proxy.rss()
    for _ in range(5):
        burst()
    if proxy.measures_memory:
        assert proxy.rss() - first < 8 * MB
