#!/usr/bin/env python3
"""Writes the tables of saslprep.c: usage saslprep_tables.py OUTPUT.

What may stand in a password is fixed by RFC 3454 on Unicode 3.2 (Python's stringprep). Normalization is that of
Python's own, newer Unicode, as PostgreSQL's is that of its release: the two agree on what Unicode 3.2 knows, and
what it doesn't know is prohibited in the end.
"""
import stringprep
import sys
import unicodedata

HANGUL = range(0xAC00, 0xAC00 + 11172)  # composed by rule, in saslprep.c
SURROGATES = range(0xD800, 0xE000)
ALL = [c for c in range(0x110000) if c not in SURROGATES]


def ranges(holds):
    found = []
    for code in ALL:
        if not holds(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def prohibited(char):
    tables = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
        stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    return any(table(char) for table in tables)


def combining_classes():
    found = []
    for code in ALL:
        of = unicodedata.combining(chr(code))
        if not of:
            continue
        if found and found[-1][1] == code - 1 and found[-1][2] == of:
            found[-1][1] = code
        else:
            found.append([code, code, of])
    return found


def decompositions():
    """Full ones (NFKD): rows of [code, place in the pool, length], and the pool."""
    rows, pool = [], []
    for code in ALL:
        parts = unicodedata.normalize("NFKD", chr(code))
        if code in HANGUL or parts == chr(code):
            continue
        rows.append([code, len(pool), len(parts)])
        pool += [[ord(part)] for part in parts]
    return rows, pool


def compositions():
    found = []
    for code in ALL:
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) != 2 or code in HANGUL or parts[0].startswith("<"):
            continue
        first, second = (int(part, 16) for part in parts)
        if unicodedata.normalize("NFC", chr(first) + chr(second)) == chr(code):  # else excluded from composition
            found.append([first, second, code])
    return sorted(found)


def write(out, name, kind, rows):
    out.write(f"static const {kind} {name}[] = {{\n")
    for row in rows:
        cells = ", ".join(f"0x{cell:x}" for cell in row)
        out.write(f"\t{{{cells}}},\n" if len(row) > 1 else f"\t{cells},\n")
    out.write("};\n\n")


def main():
    rows, pool = decompositions()
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write(f"/* Made by saslprep_tables.py from Unicode {unicodedata.unidata_version}. */\n\n")
        write(out, "spaces", "struct code_range", ranges(stringprep.in_table_c12))
        write(out, "mapped_to_nothing", "struct code_range", ranges(stringprep.in_table_b1))
        write(out, "prohibited", "struct code_range", ranges(prohibited))
        write(out, "right_to_left", "struct code_range", ranges(stringprep.in_table_d1))
        write(out, "left_to_right", "struct code_range", ranges(stringprep.in_table_d2))
        write(out, "combining_classes", "struct class_range", combining_classes())
        write(out, "decompositions", "struct decomposition", rows)
        write(out, "decomposition_pool", "uint32_t", pool)
        write(out, "compositions", "struct composition", compositions())


main()
