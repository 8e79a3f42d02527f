"""A client of a stream of server-sent events."""

import collections
import http.client
import json
import socket
import threading

from .wait import wait_until

Event = collections.namedtuple("Event", "id name data")


class Stream:
    """Reads in a thread of its own; .events is what has come. reads=False: the test reads nothing."""

    def __init__(self, proxy, path, last_id=None, reads=True, receive_buffer=None):
        self.events, self.comments, self.ended, self.error = [], 0, False, None
        self.connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=60)
        self.connection.connect()
        if receive_buffer:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        headers = {"Last-Event-ID": str(last_id)} if last_id is not None else {}
        token = proxy.config["proxy"].get("admin_token")
        if token:
            headers["Authorization"] = "Bearer " + token
        self.connection.request("GET", path, headers=headers)
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        assert self.status == 200, (self.status, self.response.read())
        self.thread, self.fields = None, {}
        if reads:
            self.read()

    def read(self):
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def read_some(self, count):
        """So many events, here."""
        wanted = len(self.events) + count
        while len(self.events) < wanted:
            line = self.response.readline()
            assert line, "the stream has ended"
            self._take(line)

    def _take(self, line):
        line, fields = line.decode().rstrip("\n"), self.fields
        if line.startswith(":"):
            self.comments += 1
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            self.events.append(Event(int(fields["id"]), fields["event"], json.loads(fields["data"])))
            self.fields = {}

    def _read(self):
        try:
            for line in self.response:
                self._take(line)
            self.ended = True
        except (OSError, http.client.HTTPException) as e:
            self.error = e

    def names(self):
        return [event.name for event in list(self.events)]

    def wait(self, name, timeout=60, **fields):
        """The first of that name with these fields."""
        def found():
            for event in list(self.events):
                if event.name == name and all(event.data["fields"].get(key) == value for key, value in fields.items()):
                    return event
            return None
        return wait_until(found, timeout, lambda: f"no {name} {fields} in {self.events[-20:]} {self.error}")

    def wait_end(self, timeout=60):
        """It was ended as it should: no broken connection."""
        wait_until(lambda: self.ended or self.error, timeout, "the stream goes on")
        assert self.ended, repr(self.error)

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the proxy was first
        if self.thread:
            self.thread.join()
        self.response.close()
        self.connection.close()
