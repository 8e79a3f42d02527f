"""
Proof that the detector finds what it is for: a relay between the clients and the proxy that spoils one answer in a while,
in one of the ways in which a proxy could.
"""

import random
import socket
import struct
import threading

from harness import Relay
from harness.fake import read_exactly, shut
from harness.wire import cancel_packet

WAYS = ("swapped answers", "an answer given twice", "an answer left out", "answers in the wrong order",
        "a cancel of another's", "another's setting", "an error of another's")
EVERY = 40  # of so many answers one is spoiled


class Tamperer(Relay):
    def __init__(self, proxy, way, seed):
        self.way = way
        self.rng = random.Random(seed)
        self.spoiled = 0
        self.seen = 0
        self.held = None     # (target, answer) that waits for another's
        self.last = None     # whose answer was the one before
        self.keys = []
        self.mutex = threading.Lock()
        super().__init__(proxy)

    def _pump(self, source, target, is_reply):
        """Answers go through message by message, gathered up to their ReadyForQuery."""
        try:
            if not is_reply:
                super()._pump(source, target, False)
                return
            answer, logged_in = b"", False
            while True:
                header = read_exactly(source, 5)
                message = header + read_exactly(source, struct.unpack("!I", header[1:])[0] - 4)
                if header[:1] == b"K":
                    self.keys.append((struct.unpack_from("!I", message, 5)[0], message[9:]))
                answer += message
                if not logged_in:
                    if header[:1] == b"Z":
                        logged_in = True
                        target.sendall(self.login(answer))
                        answer = b""
                elif header[:1] == b"Z":
                    self.pass_on(target, answer)
                    answer = b""
                elif header[:1] in b"GW" or len(answer) > 1 << 20:
                    target.sendall(answer)
                    answer = b""
        except EOFError:
            pass
        finally:
            shut(source, target)

    def login(self, answer):
        if self.way == "another's setting":
            self.spoiled += 1
            return answer.replace(b"application_name\0c1", b"application_name\0c2", 1)
        return answer

    def pass_on(self, target, answer):
        with self.mutex:
            self.seen += 1
            if self.way == "an error of another's" and answer[:1] == b"E" and self.last not in (None, target):
                self.spoiled += 1
                self.last.sendall(answer)
                target.sendall(answer)
            elif self.held:
                self.exchange(target, answer)
            elif self.seen % EVERY == 0:
                self.spoil(target, answer)
            else:
                target.sendall(answer)
            self.last = target

    def spoil(self, target, answer):
        self.spoiled += 1
        if self.way in ("swapped answers", "answers in the wrong order"):
            self.held = target, answer
        elif self.way == "an answer given twice":
            target.sendall(answer * 2)
        elif self.way == "a cancel of another's":
            with socket.create_connection(self.server.address) as s:
                s.sendall(cancel_packet(*self.rng.choice(self.keys)))
                s.recv(1)
            target.sendall(answer)
        elif self.way != "an answer left out":
            target.sendall(answer)

    def exchange(self, target, answer):
        """Gives two clients, or one, what was meant for the other, or the other way round."""
        other, first = self.held
        same = other is target
        self.held = None
        if self.way == "swapped answers" and not same:
            other.sendall(answer)
            target.sendall(first)
        elif self.way == "answers in the wrong order" and same:
            target.sendall(answer + first)
        else:
            other.sendall(first)
            target.sendall(answer)
