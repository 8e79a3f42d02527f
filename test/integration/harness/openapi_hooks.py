"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): nodes that it adds are on this machine, whatever hosts it thinks of."""

import re

import schemathesis

HOST = re.compile(r"[^\x00-\x20\"'\\\x7f]+")


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("host"), str) and HOST.fullmatch(body["host"]):
        case.body = {**body, "host": "127.0.0.1"}
