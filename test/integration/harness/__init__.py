"""Starts real PostgreSQL servers and the real proxy, and speaks the wire protocol to both."""

from .certs import Certificates
from .crowd import crowd
from .fake import FakeServer, Relay
from .gate import Gate
from .later import Later
from .pgbouncer import IniProxy, PgBouncer
from .ports import PortLease, lease_port
from .postgres import Postgres
from .proxy import Proxy, SanitizerReport
from .wait import wait_until
from .wire import Message, ServerError, Wire

__all__ = [
    "Certificates",
    "FakeServer",
    "Gate",
    "IniProxy",
    "Later",
    "Message",
    "PgBouncer",
    "PortLease",
    "Postgres",
    "Proxy",
    "Relay",
    "SanitizerReport",
    "ServerError",
    "Wire",
    "crowd",
    "lease_port",
    "wait_until",
]
