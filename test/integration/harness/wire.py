"""
A PostgreSQL client that does exactly what it is told: it sends the bytes given and returns the messages that come.
Every read has a deadline, so a test can fail but not hang.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time

PROTOCOL_3_0 = (3, 0)
PROTOCOL_3_2 = (3, 2)
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102
BACKEND_KINDS = b"RKSZTDCEIN123ntsVGHWdcAv"
DEADLINE = float(os.environ.get("HELIOS_TEST_DEADLINE", "20"))


# ---------------------------------------------------------------- messages of clients

def _text(value):
    return value if isinstance(value, bytes) else value.encode()


def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def query(sql):
    return message("Q", _text(sql) + b"\0")


def parse(name, sql, types=()):
    return message("P", _text(name) + b"\0" + _text(sql) + b"\0" + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(portal="", statement="", values=(), formats=(), result_formats=()):
    body = [_text(portal), b"\0", _text(statement), b"\0", struct.pack(f"!H{len(formats)}H", len(formats), *formats),
            struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            body.append(struct.pack("!i", -1))
        else:
            value = _text(value) if isinstance(value, (bytes, str)) else str(value).encode()
            body.append(struct.pack("!i", len(value)) + value)
    body.append(struct.pack(f"!H{len(result_formats)}H", len(result_formats), *result_formats))
    return message("B", b"".join(body))


def describe(what, name=""):
    return message("D", what.encode() + _text(name) + b"\0")


def execute(portal="", limit=0):
    return message("E", _text(portal) + b"\0" + struct.pack("!I", limit))


def close(what, name=""):
    return message("C", what.encode() + _text(name) + b"\0")


def sync():
    return message("S")


def flush():
    return message("H")


def terminate():
    return message("X")


def copy_data(data):
    return message("d", _text(data))


def copy_done():
    return message("c")


def copy_fail(reason):
    return message("f", _text(reason) + b"\0")


def function_call(oid, arguments=(), formats=(1,), result_format=1):
    body = [struct.pack(f"!IH{len(formats)}H", oid, len(formats), *formats), struct.pack("!H", len(arguments))]
    body += [struct.pack("!i", len(a)) + a if a is not None else struct.pack("!i", -1) for a in arguments]
    return message("F", b"".join(body) + struct.pack("!H", result_format))


def run(sql, values=(), name="", limit=0, parse_too=True):
    """Parse (unless not wanted), Bind, Describe, Execute of one statement, without Sync."""
    return ((parse(name, sql) if parse_too else b"") + bind("", name, values) + describe("P") + execute("", limit))


def startup_packet(parameters, version=PROTOCOL_3_0):
    pairs = parameters.items() if isinstance(parameters, dict) else parameters
    body = struct.pack("!HH", *version) + b"".join(_text(k) + b"\0" + _text(v) + b"\0" for k, v in pairs) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def cancel_packet(pid, key):
    body = struct.pack("!II", CANCEL_REQUEST, pid) + key
    return struct.pack("!I", len(body) + 4) + body


# ---------------------------------------------------------------- messages of servers

class Message:
    """One message: kind (its type byte, as a str) and body. What is parsed of it is parsed when asked for."""

    __slots__ = ("kind", "body")

    def __init__(self, kind, body):
        self.kind = kind
        self.body = body

    def __repr__(self):
        if self.kind in "EN":
            return f"<{self.kind} {self.fields.get('C')} {self.fields.get('M')}>"
        return f"<{self.kind} {self.body[:60]!r}>"

    def __eq__(self, other):
        return isinstance(other, Message) and (self.kind, self.body) == (other.kind, other.body)

    @property
    def fields(self):
        """Of an ErrorResponse or a NoticeResponse."""
        parts = self.body.rstrip(b"\0").split(b"\0")
        return {p[:1].decode(): p[1:].decode(errors="replace") for p in parts if p}

    @property
    def code(self):
        return self.fields.get("C")

    @property
    def strings(self):
        """ParameterStatus, CommandComplete, NotificationResponse (behind its pid)."""
        body = self.body[4:] if self.kind == "A" else self.body
        return [s.decode(errors="replace") for s in body.split(b"\0")[:-1]]

    @property
    def tag(self):
        return self.strings[0]

    @property
    def status(self):
        """Of a ReadyForQuery."""
        return self.body.decode()

    @property
    def values(self):
        """Of a DataRow: a list of bytes or None."""
        count, at, values = struct.unpack_from("!H", self.body)[0], 2, []
        for _ in range(count):
            size = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            values.append(None if size < 0 else self.body[at:at + size])
            at += max(size, 0)
        assert at == len(self.body), "malformed DataRow"
        return values

    @property
    def columns(self):
        """Of a RowDescription: (name, type oid)."""
        count, at, columns = struct.unpack_from("!H", self.body)[0], 2, []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            columns.append((self.body[at:end].decode(), struct.unpack_from("!I", self.body, end + 7)[0]))
            at = end + 19
        return columns

    @property
    def summary(self):
        """What a client can tell apart, without what differs between two runs (file and line of errors, keys)."""
        if self.kind in "EN":
            return f"{self.kind}:{self.fields.get('V', self.fields.get('S'))}:{self.code}:{self.fields.get('M')}"
        if self.kind == "Z":
            return "Z" + self.status
        if self.kind == "C":
            return "C:" + self.tag
        if self.kind == "D":
            return "D:" + ",".join("NULL" if v is None else v.decode(errors="replace") for v in self.values)
        if self.kind == "T":
            return "T:" + ",".join(name for name, _ in self.columns)
        if self.kind == "S":
            return "S:" + "=".join(self.strings)
        if self.kind == "t":
            return "t:" + self.body.hex()
        return self.kind


def kinds(messages):
    return "".join(m.kind for m in messages)


def summary(messages, without="S"):
    return [m.summary for m in messages if m.kind not in without]


def rows(messages):
    return [[None if v is None else v.decode() for v in m.values] for m in messages if m.kind == "D"]


def errors(messages):
    return [m.code for m in messages if m.kind == "E"]


def tags(messages):
    return [m.tag for m in messages if m.kind == "C"]


class ServerError(Exception):
    def __init__(self, fields):
        super().__init__(f"{fields.get('C')}: {fields.get('M')}")
        self.fields = fields
        self.code = fields.get("C")
        self.message = fields.get("M")
        self.hint = fields.get("H")


class Closed(Exception):
    """The other side closed the connection."""


class Deadline(AssertionError):
    """Nothing came in time."""


# ---------------------------------------------------------------- the client

class Wire:
    def __init__(self, address, timeout=DEADLINE):
        """address: (host, port) or the path of a unix socket."""
        self.address = address
        self.timeout = timeout
        self.parameters = {}
        self.backend_key = None  # (pid, secret)
        self.negotiated = None   # (newest minor version, unknown options)
        self.notices = []
        self.notifications = []
        self.auth_methods = []
        self.mechanisms = []
        self.status = None
        self._in = bytearray()
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- bytes

    def send(self, *parts):
        self.socket.settimeout(self.timeout)
        self.socket.sendall(b"".join(parts))

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Deadline(f"no message within {self.timeout} s")
        self.socket.settimeout(left)
        try:
            got = self.socket.recv(262144)
        except (TimeoutError, ssl.SSLWantReadError):
            raise Deadline(f"no message within {self.timeout} s") from None
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError, ssl.SSLEOFError) as e:
            raise Closed(str(e)) from None
        if not got:
            raise Closed("end of file")
        self._in += got

    def read_bytes(self, count):
        deadline = time.monotonic() + self.timeout
        while len(self._in) < count:
            self._fill(deadline)
        taken = bytes(self._in[:count])
        del self._in[:count]
        return taken

    def read_raw(self):
        """The next message, whichever it is."""
        kind, length = struct.unpack("!cI", self.read_bytes(5))
        assert kind in BACKEND_KINDS, f"no server sends a message {kind} ({length} bytes)"
        assert 4 <= length < 1 << 30, f"message {kind} of {length} bytes"
        m = Message(kind.decode("latin-1"), self.read_bytes(length - 4))
        if m.kind == "S":
            name, value = m.strings
            self.parameters[name] = value
        elif m.kind == "Z":
            self.status = m.status
        elif m.kind == "N":
            self.notices.append(m)
        elif m.kind == "A":
            self.notifications.append((struct.unpack_from("!I", m.body)[0], *m.strings))
        return m

    def read(self):
        """The next message that isn't asynchronous (ParameterStatus, NoticeResponse, NotificationResponse)."""
        while True:
            m = self.read_raw()
            if m.kind not in "SNA":
                return m

    def read_until(self, last):
        """All messages up to one whose kind is in last, without the asynchronous ones."""
        messages = [self.read()]
        while messages[-1].kind not in last:
            messages.append(self.read())
        return messages

    def until_ready(self, count=1):
        messages = []
        for _ in range(count):
            messages += self.read_until("Z")
        return messages

    def until_closed(self):
        """What comes before the other side closes."""
        messages = []
        try:
            while True:
                messages.append(self.read_raw())
        except Closed:
            return messages

    def bytes_until_closed(self):
        deadline = time.monotonic() + self.timeout
        try:
            while True:
                self._fill(deadline)
        except Closed:
            return bytes(self._in)

    def is_quiet(self, seconds=0.05):
        """Nothing is there to read now. (A negative: use it only to make sure that nothing was sent too much.)"""
        self.socket.settimeout(seconds)
        try:
            got = self.socket.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            return not self._in
        self._in += got
        return False

    # -- start-up

    def ssl_request(self):
        self.send(struct.pack("!II", 8, SSL_REQUEST))
        return self.read_bytes(1)

    def gssenc_request(self):
        self.send(struct.pack("!II", 8, GSSENC_REQUEST))
        return self.read_bytes(1)

    def start_tls(self, context, server_hostname="localhost"):
        self.socket.settimeout(self.timeout)
        self.socket = context.wrap_socket(self.socket, server_hostname=server_hostname)

    def startup(self, parameters, version=PROTOCOL_3_0):
        self.send(startup_packet(parameters, version))

    def login(self, parameters, password=None, version=PROTOCOL_3_0, channel_binding=False):
        """StartupMessage to ReadyForQuery. An ErrorResponse is raised as ServerError."""
        self.startup(parameters, version)
        self.finish_login(parameters, password, channel_binding)
        return self

    def finish_login(self, parameters, password=None, channel_binding=False):
        user = dict(parameters).get("user", "")
        while True:
            m = self.read_raw()
            if m.kind == "R":
                self._authenticate(m, user, password, channel_binding)
            elif m.kind == "K":
                self.backend_key = (struct.unpack_from("!I", m.body)[0], m.body[4:])
            elif m.kind == "v":
                newest, count = struct.unpack_from("!II", m.body)
                names = m.body[8:].split(b"\0")[:-1]
                assert len(names) == count
                self.negotiated = (newest & 0xffff, [n.decode() for n in names])
            elif m.kind == "E":
                raise ServerError(m.fields)
            elif m.kind == "Z":
                return
            elif m.kind not in "SNA":
                raise AssertionError(f"unexpected {m} while logging in")

    def _authenticate(self, m, user, password, channel_binding):
        method = struct.unpack_from("!I", m.body)[0]
        self.auth_methods.append(method)
        if method == 0:
            return
        if method in (3, 5, 10) and password is None:
            raise AssertionError(f"asked for a password (method {method})")
        if method == 3:
            self.send(message("p", _text(password) + b"\0"))
        elif method == 5:
            inner = hashlib.md5(_text(password) + _text(user)).hexdigest()
            outer = hashlib.md5(inner.encode() + m.body[4:8]).hexdigest()
            self.send(message("p", b"md5" + outer.encode() + b"\0"))
        elif method == 10:
            self.mechanisms = [s.decode() for s in m.body[4:].split(b"\0") if s]
            self._scram(_text(password), channel_binding)
        else:
            raise AssertionError(f"authentication method {method}")

    def _expect_auth(self, method):
        m = self.read_raw()
        if m.kind == "E":
            raise ServerError(m.fields)
        got = struct.unpack_from("!I", m.body)[0]
        assert (m.kind, got) == ("R", method), f"wanted authentication {method}, got {m}"
        self.auth_methods.append(got)
        return m.body[4:]

    def _scram(self, password, channel_binding):
        if channel_binding:
            mechanism, header = "SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"
            bound = header + hashlib.sha256(self.socket.getpeercert(True)).digest()
        else:
            mechanism, header = "SCRAM-SHA-256", b"n,,"
            bound = header
        assert mechanism in self.mechanisms, f"{mechanism} is not in {self.mechanisms}"
        nonce = base64.b64encode(os.urandom(18))
        first_bare = b"n=,r=" + nonce
        first = header + first_bare
        self.send(message("p", mechanism.encode() + b"\0" + struct.pack("!I", len(first)) + first))
        server_first = self._expect_auth(11)
        attributes = dict(part.split(b"=", 1) for part in server_first.split(b","))
        assert attributes[b"r"].startswith(nonce) and len(attributes[b"r"]) > len(nonce)
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(attributes[b"s"]), int(attributes[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = b"c=" + base64.b64encode(bound) + b",r=" + attributes[b"r"]
        signed = first_bare + b"," + server_first + b"," + final
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.send(message("p", final + b",p=" + base64.b64encode(proof)))
        server_final = self._expect_auth(12)
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        assert server_final == b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256")), \
            "the server doesn't know the password"

    # -- use

    def query(self, sql):
        """A simple query: its messages up to ReadyForQuery."""
        self.send(query(sql))
        return self.until_ready()

    def rows(self, sql):
        """A simple query's rows, of strings. Its error is raised."""
        messages = self.query(sql)
        for m in messages:
            if m.kind == "E":
                raise ServerError(m.fields)
        return rows(messages)

    def value(self, sql):
        (row,) = self.rows(sql)
        return row[0]

    def server_pid(self):
        """Of the process that answers it just now, as text."""
        return self.value("SELECT pg_backend_pid()")

    def batch(self, *parts, syncs=1):
        """Sends it all at once, with a Sync at the end, and returns everything up to the last ReadyForQuery."""
        self.send(*parts, sync())
        return self.until_ready(syncs)

    def cancel(self, context=None):
        """CancelRequest for this session, on a connection of its own."""
        with Wire(self.address, self.timeout) as other:
            if context is not None:
                assert other.ssl_request() == b"S"
                other.start_tls(context)
            other.send(cancel_packet(*self.backend_key))
            assert other.until_closed() == []

    def abort(self):
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        try:
            self.socket.settimeout(1)
            self.socket.sendall(terminate())
        except OSError:
            pass
        self.socket.close()
