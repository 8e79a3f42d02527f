"""
Servers that misbehave. A Relay stands between the proxy and a real server and can cut, hold or spoil what passes.
A FakeServer logs a client in and then does what a function says.
"""

import socket
import struct
import threading

from .ports import lease_port
from .wire import message


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        got = connection.recv(count - len(data))
        if not got:
            raise EOFError
        data += got
    return data


def read_message(connection):
    kind, length = struct.unpack("!cI", read_exactly(connection, 5))
    return kind.decode("latin-1"), read_exactly(connection, length - 4)


def shut(*sockets):
    """Both sides know that it is over."""
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class _Server:
    def __init__(self):
        self.lease = lease_port()
        self.address = ("127.0.0.1", self.lease.port)
        self.listener = socket.create_server(self.address, backlog=512)
        self.threads = []
        self.connections = []
        self.lock = threading.Lock()
        self.closing = False
        self.accepted = 0
        self._spawn(self._accept)

    def _spawn(self, function, *arguments):
        thread = threading.Thread(target=self._guard, args=(function, *arguments), daemon=True)
        self.threads.append(thread)
        thread.start()

    @staticmethod
    def _guard(function, *arguments):
        try:
            function(*arguments)
        except (OSError, EOFError, struct.error):
            pass

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.accepted += 1
                self.connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection):
        raise NotImplementedError

    def stop_listening(self):
        """New connections are refused; those that exist stay."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def drop_all(self):
        with self.lock:
            taken, self.connections = self.connections, []
        for connection in taken:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def close(self):
        self.closing = True
        self.stop_listening()
        self.drop_all()
        self.lease.release()


class FakeServer(_Server):
    """
    serve(kind, body, reply) is called for each message of a logged-in client; reply(bytes) sends. Raising EOFError
    closes. greeting, when given, replaces the answer to the StartupMessage.
    """

    def __init__(self, serve=None, greeting=None):
        self.serve = serve
        self.greeting = greeting
        super().__init__()

    def _serve(self, connection):
        while True:
            (length,) = struct.unpack("!I", read_exactly(connection, 4))
            body = read_exactly(connection, length - 4)
            if struct.unpack_from("!I", body)[0] in (80877103, 80877104):
                connection.sendall(b"N")
                continue
            break
        if struct.unpack_from("!I", body)[0] == 80877102:
            connection.close()
            return
        connection.sendall(self.greeting if self.greeting is not None else self.welcome())
        try:
            while True:
                kind, body = read_message(connection)
                if kind == "X":
                    break
                if self.serve is not None:
                    self.serve(kind, body, connection.sendall)
                elif kind in "QS":
                    connection.sendall(self.answer())
        finally:
            connection.close()

    @staticmethod
    def welcome():
        parameters = {"server_version": "15.0", "client_encoding": "UTF8", "server_encoding": "UTF8",
                      "standard_conforming_strings": "on", "DateStyle": "ISO, MDY", "TimeZone": "UTC",
                      "integer_datetimes": "on", "IntervalStyle": "postgres", "is_superuser": "off",
                      "session_authorization": "app", "application_name": ""}
        sent = [message("R", struct.pack("!I", 0))]
        sent += [message("S", k.encode() + b"\0" + v.encode() + b"\0") for k, v in parameters.items()]
        return b"".join(sent) + message("K", struct.pack("!II", 4711, 815)) + message("Z", b"I")

    @staticmethod
    def answer(value=b"1"):
        """A row of one column, complete."""
        description = struct.pack("!H", 1) + b"a\0" + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
        row = struct.pack("!Hi", 1, len(value)) + value
        return message("T", description) + message("D", row) + message("C", b"SELECT 1\0") + message("Z", b"I")


class Relay(_Server):
    """
    Passes bytes to `server` and back. hold(): nothing passes any more, and nothing is closed (a host that vanished);
    drop_all(): RST. budget: so many bytes of replies still pass, then the connection is cut (None: no limit).
    turns: how often the proxy spoke behind an answer. change: (old, new), of one length, in what it sends.
    """

    def __init__(self, server):
        self.server = server
        self.budget = None
        self.requests = bytearray()  # all that came from the proxy
        self.replied = 0
        self.turns = 0
        self.server_spoke = True
        self.change = None
        self.open = threading.Event()
        self.open.set()
        super().__init__()

    def hold(self):
        self.open.clear()

    def release(self):
        self.open.set()

    def _serve(self, connection):
        upstream = socket.create_connection(self.server.address)
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.connections.append(upstream)
        self._spawn(self._pump, upstream, connection, True)
        self._pump(connection, upstream, False)

    def _pump(self, source, target, is_reply):
        try:
            while True:
                data = source.recv(65536)
                if not is_reply and len(self.requests) < 1 << 20:
                    self.requests += data
                self.open.wait()
                if not data:
                    break
                with self.lock:
                    self.turns += not is_reply and self.server_spoke
                    self.server_spoke = is_reply
                if self.change and not is_reply:
                    data = data.replace(*self.change)
                if is_reply:
                    self.replied += len(data)
                    if self.budget is not None:
                        data, self.budget = data[:self.budget], self.budget - len(data)
                target.sendall(data)
                if is_reply and self.budget is not None and self.budget <= 0:
                    break
        finally:
            shut(source, target)


class Cutter(Relay):
    """
    Passes bytes, until something with `mark` in it is asked while cut_after is not None: of the answer so many bytes
    pass. Then the connection is cut; with a gate (an Event) the rest waits for that instead. Once: then it is None.
    """

    def __init__(self, server, mark):
        self.mark = mark
        self.cut_after = self.gate = None
        self.cuts = 0
        self.asked = set()  # on these connections
        super().__init__(server)

    def _pump(self, source, target, is_reply):
        try:
            while data := source.recv(65536):
                if not is_reply and self.mark in data:
                    self.asked.add(source)
                if not is_reply or target not in self.asked or self.cut_after is None:
                    target.sendall(data)
                elif not self._reply(target, data):
                    break
        finally:
            shut(source, target)

    def _reply(self, target, data):
        """False: it is to be cut."""
        passes, rest = data[:self.cut_after], data[self.cut_after:]
        self.cut_after -= len(passes)
        target.sendall(passes)
        if self.cut_after > 0:
            return True
        self.cut_after = None
        self.cuts += 1
        if not self.gate:
            return False
        self.gate.wait(60)
        target.sendall(rest)
        return True
