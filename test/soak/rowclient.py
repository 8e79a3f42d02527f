"""
A client whose every answer is known to the byte before it asks. What it does is a generator (actions.py) that yields
requests; this is what sends them, compares what comes, and lets the client die at any time. Without threads: a loop
(rows.py) calls it when its socket is ready, so that hundreds of them make thousands of queries a second.
"""

import collections
import errno
import select
import socket
import struct
import time

from harness import wire

PATIENCE = 60  # seconds without a byte after which a client counts as forgotten
LOST = {"57P01", "08006"}  # what a killed link leads to
IN, OUT = select.EPOLLIN, select.EPOLLOUT
READY = {status: wire.message("Z", status.encode()) for status in "ITE"}
LINGER_RST = struct.pack("ii", 1, 0)


class Wrong(AssertionError):
    """An answer that was not the client's."""


class Lost(Exception):
    """The connection broke, as a killed link explains."""


class Leave(Exception):
    """The client goes, now: how says with what manners (rst, fin, terminate)."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Unit:
    """One answer up to its ReadyForQuery: its messages as bytes, and Error and Notice where texts are compared."""

    __slots__ = ("parts", "at", "end", "outcome")

    def __init__(self, *parts, end="I"):
        self.parts = [*parts]
        if end:
            if isinstance(self.parts[-1], bytes):
                self.parts[-1] += READY[end]
            else:
                self.parts.append(READY[end])
        self.at = 0
        self.end = end
        self.outcome = None  # "cancelled" or "lost", when it ended that way

    def ends_with(self, status, outcome):
        self.parts, self.at, self.outcome = [READY[status]], 0, outcome


class Text:
    """An ErrorResponse (or a NoticeResponse) with this SQLSTATE and this in its message."""

    def __init__(self, kind, code, text):
        self.kind, self.code, self.text = kind, code, text

    def __repr__(self):
        return f"{self.kind} {self.code} {self.text!r}"


def error(code, text=""):
    return Text("E", code, text)


def notice(text):
    return Text("N", "00000", text)


class Ask:
    """
    Bytes to send and the Units that answer them. cancel: so many seconds later the query is cancelled, again and again
    until it is over. pause: nothing is read for so long. survives: may go on when a killed link took the answer with it.
    """

    __slots__ = ("data", "units", "cancel", "pause", "survives")

    def __init__(self, data, *units, cancel=None, pause=0, survives=False):
        self.data = data
        self.units = units
        self.cancel = cancel
        self.pause = pause
        self.survives = survives


class Connection:
    """A socket in the loop. Subclasses say what to do with what comes, and at the end."""

    def __init__(self, loop, address, receive_buffer=None):
        self.loop = loop
        self.out = b""
        self.events = 0
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        failed = self.socket.connect_ex(address)
        if failed not in (0, errno.EINPROGRESS):
            raise OSError(failed, "connect")
        self.fd = self.socket.fileno()
        loop.add(self)
        self.connected = failed == 0

    def watch(self, events):
        if events != self.events:
            self.events = events
            self.loop.epoll.modify(self.fd, events)

    def send(self, data):
        self.out += data
        self.push()

    def push(self):
        if self.out and self.connected:
            try:
                self.out = self.out[self.socket.send(self.out):]
            except BlockingIOError:
                pass
            except OSError:
                self.out = b""  # what came before its end is still read
        self.watch(self.wants() | (OUT if self.out else 0))

    def wants(self):
        return IN

    def ready(self, events):
        if events & ~IN and not self.connected:
            self.connected = True
        if events & OUT or self.out:
            self.push()
        if events & (IN | select.EPOLLHUP | select.EPOLLERR):
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.received(data)

    def close(self):
        if self.socket:
            self.loop.remove(self)
            self.socket.close()
            self.socket = None

    def received(self, data):
        """b"": the end."""
        raise NotImplementedError


class Canceller(Connection):
    """A CancelRequest on its way; done() is called when the proxy has closed it."""

    def __init__(self, loop, address, key, done):
        self.done = done
        super().__init__(loop, address)
        self.send(wire.cancel_packet(*key))

    def received(self, data):
        if data:
            raise Wrong(f"a CancelRequest was answered: {data[:80]!r}")
        self.close()
        self.done()


class Cut(Connection):
    """A login that ends in the middle, or bytes that are none."""

    def __init__(self, loop, address, data):
        super().__init__(loop, address)
        self.send(data)
        loop.later(0.02, self.close)

    def received(self, data):
        if not data:
            self.close()


class Client(Connection):
    """actions(client) is the generator of its life. status: what ParameterStatus may tell it, by name."""

    def __init__(self, loop, address, name, rng, actions, startup, die):
        self.name = name
        self.rng = rng
        self.die = die
        self.said_goodbye = False
        self.status = {}
        self.told = {}
        self.rest = b""
        self.units = collections.deque()
        self.asked = None
        self.cancelling = 0
        self.reads = True
        self.life = None
        self.key = None
        self.channel, self.heard = None, []
        self.since = time.monotonic()
        self.history = collections.deque(maxlen=60)
        self.actions = actions
        super().__init__(loop, address, rng.choice((None, None, None, 4096, 32768)))
        self.send(startup)

    # -- sending

    def resume(self):
        """Goes on with its life, up to the next request that must be answered."""
        while self.socket and not self.units and not self.cancelling and not self.said_goodbye:
            try:
                asked = next(self.life)
            except StopIteration:
                self.leave("terminate")
                return
            except Leave as e:
                self.leave(e.how)
                return
            self.ask(asked)

    def ask(self, asked):
        self.asked = asked
        self.units.extend(asked.units)
        self.since = time.monotonic()
        data = asked.data
        self.history.append((self.since, ">", data))
        if self.rng.random() < self.die:
            how = self.rng.choice(("rst", "fin", "terminate"))
            cut = self.rng.randrange(len(data) + 1) if self.rng.random() < 0.3 else len(data)
            self.said_goodbye = how == "terminate" and cut == len(data)
            self.send(data[:cut] + (wire.terminate() if self.said_goodbye else b""))
            self.history.append((self.since, f"dies ({how}), {cut} of {len(data)} bytes", b""))
            delay = self.rng.choice((0, 0, 0.002, 0.02, 0.1))
            self.loop.later(delay, lambda: self.leave("rst" if how == "rst" else "fin"))
            return
        if asked.pause:
            self.reads = False
            self.loop.later(asked.pause, self.read_again)
        if data:
            self.send(data)
        if asked.cancel is not None:
            self.cancelling = 1
            self.loop.later(asked.cancel, self.cancel)

    def read_again(self):
        self.reads = True
        self.since = time.monotonic()
        if self.socket:
            self.push()

    def cancel(self):
        if self.socket:
            self.history.append((time.monotonic(), "cancel", b""))
            self.loop.count("cancels")
            Canceller(self.loop, self.loop.address, self.key, self.cancelled)

    def cancelled(self):
        """The proxy is done with the CancelRequest; when the query is over, too, nothing later may be hit."""
        self.history.append((time.monotonic(), "cancel done", b""))
        if not self.socket:
            return
        if self.units:
            self.loop.later(0.05, self.cancel_or_go_on)
        else:
            self.cancelling = 0
            self.resume()

    def cancel_or_go_on(self):
        if self.units:
            self.cancel()
        elif self.socket:
            self.cancelling = 0
            self.resume()

    def wants(self):
        return IN if self.reads else 0

    def leave(self, how):
        if not self.socket:
            return
        self.history.append((time.monotonic(), f"leaves: {how}", b""))
        try:
            if how == "rst":
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RST)
            elif how == "terminate":
                self.socket.send(wire.terminate())
        except OSError:
            pass
        self.close()
        self.loop.left(self)

    # -- receiving

    def received(self, data):
        if not data:
            if self.said_goodbye and not self.units:  # it had all its answers, and the proxy took it at its word
                self.leave("fin")
                return
            raise Lost("closed")
        now = self.since = time.monotonic()
        self.history.append((now, "<", data if len(data) < 300 else data[:200] + b" ... " + data[-60:]))
        if self.rest:
            data = self.rest + data
        at, end = 0, len(data)
        while at < end:
            if self.units:
                unit = self.units[0]
                part = unit.parts[unit.at]
                if type(part) is bytes:
                    if data.startswith(part, at):
                        at += len(part)
                        self.go_on(unit)
                        continue
                    if end - at < len(part) and part.startswith(data[at:]):
                        break
            passed = self.look(data, at)
            if not passed:
                break
            at = passed
        self.rest = data[at:]
        if not self.units and self.life and not self.rest:
            self.over()

    def go_on(self, unit):
        unit.at += 1
        if unit.at == len(unit.parts):
            self.units.popleft()
            if unit.end:
                self.loop.queries += 1

    def over(self):
        """All that was asked is answered."""
        asked, self.asked = self.asked, None
        if asked and any(unit.outcome == "lost" for unit in asked.units) and not asked.survives:
            raise Lost("08006")
        if not self.cancelling:
            self.resume()

    def look(self, data, at):
        """One message that is not simply what was expected. Returns where the next begins, or 0."""
        if len(data) - at < 5:
            return 0
        length = int.from_bytes(data[at + 1:at + 5], "big")
        kind = data[at:at + 1]
        if kind not in (b"%c" % k for k in wire.BACKEND_KINDS) or not 4 <= length < 1 << 28:
            raise Wrong(f"no message: {data[at:at + 60]!r}")
        after = at + 1 + length
        if after > len(data):
            return 0
        m = wire.Message(kind.decode(), data[at + 5:after])
        if not self.life:
            self.login(m)
        elif m.kind == "S":
            self.parameter(m)
        elif m.kind in "EN":
            self.said(m)
        elif m.kind == "A":
            self.notified(*m.strings)
        else:
            self.next_message(m, data[at:after])
        return after

    def login(self, m):
        if m.kind == "K":
            self.key = (struct.unpack_from("!I", m.body)[0], m.body[4:])
        elif m.kind == "S":
            self.parameter(m)
        elif m.kind == "E":
            raise (Lost(m.code) if m.code in LOST else Wrong(f"login: {m}"))
        elif m.kind == "Z":
            for name, values in self.status.items():
                if self.told.get(name) not in values:
                    raise Wrong(f"{name} is {self.told.get(name)!r} behind the login, not one of {values}")
            self.loop.count("logins")
            self.life = self.actions(self)
            self.resume()

    def parameter(self, m):
        name, value = m.strings
        self.told[name] = value
        if self.life and name in self.status and value not in self.status[name]:
            raise Wrong(f"{name} = {value!r} was told, not one of {self.status[name]}")

    def notified(self, channel, payload):
        if channel != self.channel or not payload.startswith(self.name + "."):
            raise Wrong(f"a notification of {channel!r}, {payload!r}")
        self.heard.append(payload)

    def said(self, m):
        unit = self.units[0] if self.units else None
        part = unit.parts[unit.at] if unit else None
        if isinstance(part, Text) and part.kind == m.kind and part.code == m.code and part.text in m.fields["M"]:
            self.go_on(unit)
        elif m.kind == "E" and m.code in LOST:
            self.loop.count("lost answers")
            if m.fields["V"] != "ERROR" or not unit or unit.end != "I":
                raise Lost(m.code)
            unit.ends_with("I", "lost")
        elif m.kind == "E" and m.code == "57014" and self.cancelling and "user request" in m.fields["M"]:
            self.loop.count("cancelled")
            unit.ends_with("I" if unit.end == "I" else "E", "cancelled")
        else:
            raise Wrong(f"{m} instead of {part!r}")

    def next_message(self, m, data):
        """It differs from what was expected, or something asynchronous stands before the rest."""
        if not self.units:
            raise Wrong(f"{m} was asked by nobody")
        unit = self.units[0]
        part = unit.parts[unit.at]
        if not isinstance(part, bytes) or not part.startswith(data):
            raise Wrong(f"{m} instead of {part[:200] if isinstance(part, bytes) else part!r}")
        if len(part) == len(data):
            self.go_on(unit)
        else:
            unit.parts[unit.at] = part[len(data):]

    def is_forgotten(self, now, patience):
        return self.reads and (self.units or not self.life) and now - self.since > patience

    def story(self):
        lines = [f"{when - self.loop.began:9.4f} {what} {data[:400]!r}" for when, what, data in self.history]
        return "\n".join(lines)
