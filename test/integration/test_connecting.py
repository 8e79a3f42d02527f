"""Many connections, each for a moment: what comes with the first packet, what is known of it, who comes late."""

import socket
import struct
import threading

import pytest
from harness import ServerError, wait_until, wire
from harness.wire import Wire, startup_packet

APP = {"user": "app", "database": "app"}


def test_a_whole_life_in_one_packet(target):
    client = target.raw()
    client.send(startup_packet(APP), wire.query("SELECT 7"), wire.terminate())
    client.finish_login(APP)
    assert wire.rows(client.until_closed()) == [["7"]]


def test_a_whole_life_in_one_packet_and_no_more(target):
    client = target.raw()
    client.send(startup_packet(APP), wire.query("SELECT 7"))
    client.socket.shutdown(socket.SHUT_WR)
    client.finish_login(APP)
    assert wire.rows(client.until_closed()) == [["7"]]


def test_clients_that_vanish_behind_their_first_packet(target):
    for what in (b"", startup_packet(APP), startup_packet(APP) + wire.query("SELECT 1"), startup_packet(APP)[:9]):
        for reset in (False, True):
            client = target.raw()
            client.send(what)
            if reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
    assert target.wire().value("SELECT 1") == "1"


@pytest.mark.parametrize("defer", ["0s", "1s"])
def test_one_that_speaks_late(make_proxy, closing, defer):
    """With tcp_defer_accept the kernel shows it when it has been silent for a second, not only when it speaks."""
    proxy = make_proxy({"proxy": {"tcp_defer_accept": defer}})
    client = closing(Wire(proxy.address))
    wait_until(lambda: proxy.metric("clients") == 1)
    packet = startup_packet(APP)
    client.send(packet[:5])
    assert client.is_quiet()
    client.send(packet[5:])
    client.finish_login(APP)
    assert client.value("SELECT 1") == "1"


def test_silent_ones_have_a_deadline(make_proxy, closing):
    proxy = make_proxy()
    client = closing(Wire(proxy.address))
    wait_until(lambda: proxy.metric("clients") == 1)
    proxy.advance(61)
    assert [m.code for m in client.until_closed()] == ["08006"]


def test_deferring_follows_a_reload(make_proxy, closing):
    proxy = make_proxy({"proxy": {"tcp_defer_accept": "60s"}})
    proxy.reload({"proxy": {"tcp_defer_accept": "0s"}})
    closing(Wire(proxy.address))
    wait_until(lambda: proxy.metric("clients") == 1)
    assert proxy.wire().value("SELECT 1") == "1"


# ---------------------------------------------------------------- what is known of a packet

def test_the_same_packet_is_greeted_the_same(target):
    """What was kept of it is no other client's: neither the key, nor what one has set meanwhile."""
    settings = {"application_name": "same", "DateStyle": "German", "options": "-c work_mem=2MB"}
    clients = [target.wire(**settings) for _ in range(3)]
    assert all(c.parameters == clients[0].parameters for c in clients)
    assert len({c.backend_key for c in clients}) == 3
    clients[0].query("SET DateStyle = 'SQL'; SET application_name = 'other'; SET work_mem = '3MB'")
    later = target.wire(**settings)
    assert later.parameters == clients[1].parameters == target.oracle(**settings).parameters
    for client in (clients[1], later):
        assert client.rows("SELECT current_setting('datestyle'), current_setting('application_name'), "
                           "current_setting('work_mem')") == [["German, DMY", "same", "2MB"]]
    assert clients[0].value("SHOW work_mem") == "3MB"


def test_packets_that_begin_alike(target):
    """The packet is what its length says, whatever comes behind it."""
    for _ in range(2):
        for name in ("a", "aa", "a" * 60, ""):
            client = target.raw()
            client.send(startup_packet({**APP, "application_name": name}), wire.query("SHOW application_name"))
            client.finish_login(APP)
            assert wire.rows(client.until_ready()) == [[name]]


@pytest.mark.parametrize("version", [(3, 0), (3, 2), (3, 9)])
def test_the_version_is_negotiated_each_time(target, version):
    met = [target.raw().login(APP, version=version) for _ in range(3)]
    assert len({(c.negotiated and c.negotiated[0], len(c.backend_key[1])) for c in met}) == 1


def test_a_known_packet_meets_the_rules_of_now(make_proxy, closing, tmp_path):
    rules = tmp_path / "hba"
    rules.write_text("host all all all trust\n")
    proxy = make_proxy({"auth": {"hba_file": str(rules)}})
    for _ in range(2):
        assert closing(proxy.wire()).value("SELECT 1") == "1"
    rules.write_text("host all other all trust\n")
    proxy.reload()
    with pytest.raises(ServerError) as e:
        proxy.wire()
    assert e.value.code == "28000"
    rules.write_text("host all all all trust\n")
    proxy.reload()
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_a_known_packet_is_read_by_the_configuration_of_now(make_proxy, closing):
    proxy = make_proxy({"pool": {"ignore_startup_parameters": ["work_mem"]}})
    before = closing(proxy.wire()).value("SHOW work_mem")
    assert closing(proxy.wire(work_mem="3MB")).value("SHOW work_mem") == before
    assert closing(proxy.wire(work_mem="3MB")).value("SHOW work_mem") == before
    proxy.reload({"pool": {"ignore_startup_parameters": ["extra_float_digits"]}})
    assert closing(proxy.wire(work_mem="3MB")).value("SHOW work_mem") == "3MB"


def test_a_login_under_way_at_a_reload_teaches_nothing(make_proxy, closing, tmp_path):
    """What its packet was read to by the old configuration must not serve those who come later."""
    users = tmp_path / "users"
    users.write_text('"app" "secret"\n')
    proxy = make_proxy({"auth": {"mode": "scram-sha-256", "auth_file": str(users)},
                        "pool": {"ignore_startup_parameters": ["work_mem"]}, "proxy": {"workers": 1}})
    parameters = {**APP, "work_mem": "3MB"}
    slow = closing(Wire(proxy.address))
    slow.startup(parameters)
    wait_until(lambda: proxy.metric("clients") == 1)
    proxy.reload({"pool": {"ignore_startup_parameters": ["extra_float_digits"]}})
    slow.finish_login(parameters, "secret")
    assert slow.value("SHOW work_mem") != "3MB"
    for _ in range(2):
        assert closing(proxy.wire(password="secret", work_mem="3MB")).value("SHOW work_mem") == "3MB"


def test_a_known_packet_when_there_is_no_room(make_proxy, closing):
    proxy = make_proxy({"proxy": {"max_clients": 2}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    for _ in range(2):
        with pytest.raises(ServerError) as e:
            proxy.wire()
        assert e.value.code == "53300"
    second.close()
    wait_until(lambda: proxy.metric("clients") == 1)
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    assert first.value("SELECT 1") == "1"


def test_more_packets_than_are_kept(make_proxy, closing):
    proxy = make_proxy({"proxy": {"workers": 1}})
    for i in list(range(300)) + [0, 299]:
        with proxy.wire(application_name=f"program {i}") as client:
            assert client.parameters["application_name"] == f"program {i}"
    assert closing(proxy.wire(application_name="program 7")).value("SHOW application_name") == "program 7"


# ---------------------------------------------------------------- while the process goes

@pytest.mark.parametrize("defer", ["0s", "1s"])
def test_many_connect_while_it_drains(make_proxy, defer):
    """Each is served to the end or told; none is left waiting."""
    proxy = make_proxy({"proxy": {"tcp_defer_accept": defer}})
    problems, served, turned_away = [], [], []

    def work():
        while not turned_away and not problems:
            try:
                with Wire(proxy.address) as client:
                    client.send(startup_packet(APP), wire.query("SELECT 1"))
                    client.finish_login(APP)
                    assert wire.rows(client.until_ready()) == [["1"]]
                served.append(1)
            except (OSError, ServerError, wire.Closed) as e:
                turned_away.append(repr(e))
            except BaseException as e:  # noqa: BLE001
                problems.append(repr(e))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        wait_until(lambda: len(served) > 50 or problems)
        proxy.stop()
    finally:
        turned_away.append("the test is over")
        for t in threads:
            t.join()
    assert not problems
    assert not [e for e in turned_away if "timed out" in e]
