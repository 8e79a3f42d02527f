"""docs/test-map.md names tests: each exists, and is one. So the map can't rot unnoticed."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAP = ROOT / "docs/test-map.md"
NAMED = sorted(set(re.findall(r"`([\w./-]+\.(?:py|c))(?:::(\w+))?`", MAP.read_text(encoding="utf-8"))))


def file_of(name):
    return ROOT / name if "/" in name else ROOT / "test/integration" / name


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_what_the_map_names_is_there(path):
    text = file_of(path).read_text(encoding="utf-8")
    pattern = r"(?:cmocka_unit_test\w*|\bTEST)\({}\b" if path.endswith(".c") else r"^def {}\("
    missing = [name for other, name in NAMED if other == path and name and
               not re.search(pattern.format(name), text, re.M)]
    assert not missing, f"docs/test-map.md names tests that {path} has not: {missing}"


def test_every_row_names_a_test():
    rows = [line for line in MAP.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    bare = [row for row in rows if row != "| clause | tests |" and not re.search(r"`[\w./-]+\.(?:py|c)(::\w+)?`", row)]
    assert len(rows) > 100 and not bare, bare
