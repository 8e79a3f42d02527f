#!/usr/bin/env python3
"""Writes the files of the web page as C arrays, each plain and compressed: embed.py OUTPUT FILE..."""
import gzip
import hashlib
import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def array(name, data):
    lines = [", ".join(map(str, data[i:i + 30])) for i in range(0, len(data), 30)]
    return f"static const unsigned char {name}[] = {{\n" + ",\n".join(lines) + "};\n"


def main(output, *paths):
    arrays, rows = [], []
    for number, path in enumerate(map(pathlib.Path, sorted(paths, key=lambda p: pathlib.Path(p).name))):
        plain = path.read_bytes()
        packed = gzip.compress(plain, 9, mtime=0)  # without a time: the same files give the same program
        arrays += [array(f"plain_{number}", plain), array(f"packed_{number}", packed)]
        rows.append(f'\t{{"{path.name}", "{TYPES[path.suffix]}", "{hashlib.sha256(plain).hexdigest()[:20]}", '
                    f"plain_{number}, sizeof(plain_{number}), packed_{number}, sizeof(packed_{number})}},\n")
    pathlib.Path(output).write_text("/* Made by src/admin/ui/embed.py. */\n" + "".join(arrays) +
                                    "static const struct ui_file files[] = {\n" + "".join(rows) + "};\n",
                                    encoding="utf-8")


main(*sys.argv[1:])
