"""
The description of the versioned API: it says what endpoints.def says, what it promises is what comes, and requests made
from it (schemathesis) find nothing that breaks or that it doesn't tell.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from harness.proxy import toml

jsonschema = pytest.importorskip("jsonschema")
openapi_spec_validator = pytest.importorskip("openapi_spec_validator")
pytest.importorskip("schemathesis")

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROW = re.compile(r'^ENDPOINT\("(\w+)", "(/api/v1/[^"]*)", (\w+),', re.MULTILINE)
# Where the answer goes on until somebody ends it: nothing to try in a bounded time.
STREAMS = {"/api/v1/events/stream", "/api/v1/log/stream"}


def described(document):
    return {(method.upper(), path): operation for path, operations in document["paths"].items()
            for method, operation in operations.items()}


def rows():
    text = (ROOT / "src/admin/endpoints.def").read_text(encoding="utf-8")
    return {(method, path.replace("...}", "}")): access.lower() for method, path, access in ROW.findall(text)}


@pytest.fixture
def document(make_proxy):
    return make_proxy().json("/api/v1/openapi.json")


def test_it_is_openapi(document):
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)


def test_it_describes_each_endpoint_and_no_other(document):
    operations = described(document)
    assert set(operations) == set(rows())
    assert {key: each["x-required-role"] for key, each in operations.items()} == rows()
    names = [each["operationId"] for each in operations.values()]
    assert len(names) == len(set(names))


def test_codes_of_problems_are_documented():
    listed = set(re.findall(r'^(?:STATUS\(\d+, |PROBLEM\()"(\w+)"', (ROOT / "src/admin/problems.def").read_text(),
                            re.MULTILINE))
    used = set()
    for file in (ROOT / "src/admin").glob("*.c"):
        used.update(re.findall(r'answer_problem\(\w+,\s*[\w ]+,\s*"(\w+)"', file.read_text(encoding="utf-8")))
    assert used and used <= listed, used - listed


def test_it_can_be_had_without_a_token(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}})
    assert proxy.admin("/api/v1/openapi.json", token="wrong")[0] == 200
    assert proxy.admin("/api/v1/status", token="wrong")[0] == 401


def closed(schema):
    """The same, but what is not described is not allowed."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def test_answers_are_as_described_and_say_no_more(make_proxy, closing):
    proxy = make_proxy({"health": {"check_interval": "1s", "user": "postgres"}})
    client = closing(proxy.connect())
    client.execute("BEGIN")
    pid = proxy.sessions()[0]["pid"]
    assert proxy.admin("/api/v1/nodes/" + proxy.json("/nodes")[0]["name"] + "/drain?force=1", "POST")[0] == 200
    document = proxy.json("/api/v1/openapi.json")
    arguments = {"node": proxy.json("/nodes")[0]["name"], "pid": str(pid)}
    seen = 0
    for (method, path), operation in described(document).items():
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
        if method != "GET" or schema is None or path in STREAMS or operation.get("parameters", [{}])[0].get("required"):
            if not (method == "GET" and "{" in path):
                continue
        url = re.sub(r"{(\w+)}", lambda m: arguments[m[1]], path)
        jsonschema.validate(proxy.json(url), closed({**schema, "components": document["components"]}))
        seen += 1
    assert seen >= 9


@pytest.mark.timeout(300)
def test_requests_made_from_it(make_proxy, closing):
    """With data in all places, and a token, so that checks of authentication mean something."""
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}, "databases": {"app": {}, "other": {"dbname": "app"}}})
    clients = [closing(proxy.connect(database=database)) for database in ("app", "other", "app")]
    clients[0].execute("BEGIN")
    values = {"path.node": proxy.json("/nodes")[0]["name"], "path.database": "other",
              "path.pid": proxy.sessions()[0]["pid"]}
    with open(os.path.join(proxy.root, "schemathesis.toml"), "w", encoding="utf-8") as f:
        f.write(toml({"parameters": values}))
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{proxy.admin_port}/api/v1/openapi.json",
               "--header", "Authorization: Bearer s3cret", "--max-examples", os.environ.get("HELIOS_EXAMPLES", "5"),
               "--generation-deterministic", "--no-color", "--checks", "all", "--exclude-path-regex", "/stream$",
               "--request-timeout", "20", "--workers", "1"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "harness.openapi_hooks",
                   "PYTHONPATH": str(ROOT / "test/integration")}
    done = subprocess.run(command, cwd=proxy.root, env=environment, capture_output=True, text=True, timeout=280,
                          check=False)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    assert proxy.is_live()
