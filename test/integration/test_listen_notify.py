"""LISTEN and NOTIFY: the listener gets what it asked for, at once, also when it is idle; nobody else gets it."""

import psycopg
import pytest
from harness import wait_until
from harness.wire import Deadline, errors, run

pytestmark = pytest.mark.matrix


def await_notification(client, count=1):
    while len(client.notifications) < count:
        client.read_raw()
    return [(channel, payload) for _, channel, payload in client.notifications]


def test_notification_reaches_an_idle_listener(target, name):
    listener, notifier, bystander = target.wire(), target.wire(), target.wire()
    listener.query(f"LISTEN {name}")
    bystander.query("SELECT 1")
    notifier.query(f"NOTIFY {name}, 'it''s here'")
    assert await_notification(listener) == [(name, "it's here")]
    notifier.query("SELECT 1")
    bystander.query("SELECT 1")
    assert notifier.notifications == [] and bystander.notifications == []


def test_many_notifications_in_order(target, name):
    listener, notifier = target.wire(), target.wire()
    listener.query(f"LISTEN {name}")
    for i in range(100):
        notifier.query(f"SELECT pg_notify('{name}', '{i}')")
    assert await_notification(listener, 100) == [(name, str(i)) for i in range(100)]


def test_two_listeners_on_two_channels(target, name):
    first, second, notifier = target.wire(), target.wire(), target.wire()
    first.query(f"LISTEN {name}_1")
    second.query(f"LISTEN {name}_2")
    notifier.query(f"NOTIFY {name}_1, 'one'")
    notifier.query(f"NOTIFY {name}_2, 'two'")
    assert await_notification(first) == [(f"{name}_1", "one")]
    assert await_notification(second) == [(f"{name}_2", "two")]


def test_listen_through_the_extended_protocol(target, name):
    listener, notifier = target.wire(), target.wire()
    listener.batch(run(f"LISTEN {name}"))
    notifier.batch(run(f"NOTIFY {name}, 'x'"))
    assert await_notification(listener) == [(name, "x")]


def test_own_notification(target, name):
    client = target.wire()
    client.query(f"LISTEN {name}")
    client.query(f"NOTIFY {name}, 'mine'")
    assert await_notification(client) == [(name, "mine")]


def test_listener_works_meanwhile(target, name):
    listener, notifier = target.wire(), target.wire()
    listener.query(f"LISTEN {name}")
    for i in range(20):
        notifier.query(f"NOTIFY {name}, '{i}'")
        assert listener.value(f"SELECT {i}") == str(i)
    assert await_notification(listener, 20) == [(name, str(i)) for i in range(20)]


@pytest.mark.modes("session", "transaction")
def test_listen_in_a_transaction(target, name):
    listener, notifier = target.wire(), target.wire()
    listener.query("BEGIN")
    listener.query(f"LISTEN {name}")
    listener.query("COMMIT")
    notifier.query(f"NOTIFY {name}, 'x'")
    assert await_notification(listener) == [(name, "x")]


@pytest.mark.modes("session", "transaction")
def test_rolled_back_notify_is_not_sent(target, name):
    listener, notifier = target.wire(), target.wire()
    listener.query(f"LISTEN {name}")
    notifier.query("BEGIN")
    notifier.query(f"NOTIFY {name}, 'never'")
    notifier.query("ROLLBACK")
    notifier.query(f"NOTIFY {name}, 'sent'")
    assert await_notification(listener) == [(name, "sent")]


def test_unlisten(target, name):
    listener, notifier = target.wire(), target.wire()
    listener.query(f"LISTEN {name}; LISTEN {name}_still")
    listener.query(f"UNLISTEN {name}")
    notifier.query(f"NOTIFY {name}, 'no'; NOTIFY {name}_still, 'yes'")
    assert await_notification(listener) == [(f"{name}_still", "yes")]
    listener.query("UNLISTEN *")
    notifier.query(f"NOTIFY {name}_still, 'no'")
    listener.query("SELECT 1")
    assert len(listener.notifications) == 1


def test_nothing_reaches_the_next_user_of_the_link(narrow, name):
    """The listener left: whoever gets its link must not hear its channel."""
    listener = narrow.wire()
    listener.query(f"LISTEN {name}")
    listener.close()
    following, notifier = narrow.wire(), narrow.wire()
    wait_until(lambda: not errors(following.query("SELECT 1")))
    notifier.query(f"NOTIFY {name}, 'to nobody'")
    following.query("SELECT 1")
    assert following.notifications == [] and following.value("SELECT count(*) FROM pg_listening_channels()") == "0"


def test_dead_listener_frees_its_link(target, name):
    listener, notifier = target.wire(application_name=name), target.wire()
    listener.query(f"LISTEN {name}")
    listener.abort()
    notifier.query(f"NOTIFY {name}")
    assert notifier.value("SELECT 1") == "1"


def test_psycopg_notifies(target, name):
    with target.connect() as listener, target.connect() as notifier:
        listener.execute(f"LISTEN {name}")
        notifier.execute("SELECT pg_notify(%s, %s)", [name, "from psycopg"])
        found = next(listener.notifies())
        assert (found.channel, found.payload) == (name, "from psycopg")
        assert isinstance(listener, psycopg.Connection)


def test_no_message_is_sent_for_nothing(target, name):
    listener = target.wire()
    listener.query(f"LISTEN {name}")
    listener.timeout = 0.1
    with pytest.raises(Deadline):
        listener.read_raw()
