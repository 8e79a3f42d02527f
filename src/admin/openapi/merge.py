#!/usr/bin/env python3
"""Makes one OpenAPI document of the areas beside this file, as a C array: merge.py VERSION OUTPUT DEPFILE

frame.json has what all share; each other *.json is an area: {"paths": ..., "components": ...}. An operation's
x-required-role comes from its row in endpoints.def, and whatever may be refused (all of them) gets the answer that says
why. What the areas say and what endpoints.def says is compared by test/integration/test_openapi.py.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROW = re.compile(r'^ENDPOINT\("(\w+)", "(/api/v1/[^"]*)", (\w+),', re.MULTILINE)


def roles():
    """{(method, path): role} of endpoints.def."""
    text = (HERE.parent / "endpoints.def").read_text(encoding="utf-8")
    return {(method.lower(), path.replace("...}", "}")): access.lower() for method, path, access in ROW.findall(text)}


def add(to, name, value, area):
    if name in to:
        sys.exit(f"{area}: {name} is described a second time")
    to[name] = value


def merge(version):
    document = json.loads((HERE / "frame.json").read_text(encoding="utf-8"))
    document["info"]["version"] = version
    for file in sorted(HERE.glob("*.json")):
        if file.name == "frame.json":
            continue
        area = json.loads(file.read_text(encoding="utf-8"))
        for path, operations in area["paths"].items():
            for method, operation in operations.items():
                add(document["paths"].setdefault(path, {}), method, operation, file.name)
        for kind, things in area.get("components", {}).items():
            for name, thing in things.items():
                add(document["components"].setdefault(kind, {}), name, thing, file.name)
    finish(document)
    return document


def finish(document):
    role_of, tags = roles(), set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if (method, path) in role_of:
                operation["x-required-role"] = role_of[method, path]
            if operation.get("x-required-role") == "open":
                operation["security"] = []
            operation["responses"].setdefault("default", {"$ref": "#/components/responses/problem"})
            tags.update(operation.get("tags", []))
    document["tags"] = [{"name": tag} for tag in sorted(tags)]


def c_array(data):
    rows = (", ".join(str(byte) for byte in data[i:i + 24]) for i in range(0, len(data), 24))
    return ",\n\t".join(rows)


def main():
    version, output, depfile = sys.argv[1:]
    data = json.dumps(merge(version), ensure_ascii=False, separators=(",", ":")).encode()
    with open(output, "w", encoding="ascii") as f:
        f.write(f"/* Made by merge.py. */\n#include \"admin/openapi.h\"\n\nconst size_t openapi_len = {len(data)};\n"
                f"const unsigned char openapi_document[] = {{\n\t{c_array(data)}}};\n")
    read = [HERE, HERE.parent / "endpoints.def", *sorted(HERE.glob("*.json"))]  # the folder: a new file counts, too
    with open(depfile, "w", encoding="utf-8") as f:
        f.write(f"{output}: " + " ".join(str(path).replace(" ", "\\ ") for path in read) + "\n")


if __name__ == "__main__":
    main()
