"""The golden vectors are what their generators make, and another language is told how to read them."""

import importlib
import json
import re
from pathlib import Path

import pytest

from tests.vectors.plain import plain, repeat, unfold

FOLDER = Path(__file__).parents[2] / "vectors"
GENERATORS = sorted(path.stem for path in FOLDER.glob("generate_*.py"))
FILES = sorted(path.name for path in FOLDER.glob("*.json"))


def rendered(generator: str) -> dict[str, str]:
    texts: dict[str, str] = importlib.import_module(f"tests.vectors.{generator}").render()
    return texts


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_files_are_what_the_generator_makes(generator: str) -> None:
    for name, text in rendered(generator).items():
        assert (FOLDER / name).read_text() == text, f"{name}: run python -m tests.vectors.{generator}"


def test_every_file_has_a_generator() -> None:
    assert sorted(name for generator in GENERATORS for name in rendered(generator)) == FILES


def test_every_file_is_in_the_table() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert sorted(re.findall(r"`([a-z_]+\.json)`", readme.split("## The files")[1].split("\n\n")[1])) == FILES


def wide_numbers(value: object) -> list[int]:
    """Return the numbers in JSON that readers with 64-bit floats would change."""
    if isinstance(value, dict):
        return [number for each in value.values() for number in wide_numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in wide_numbers(each)]
    return [value] if isinstance(value, int) and abs(value) >= 2**53 else []


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_a_number_that_is_too_wide(name: str) -> None:
    assert wide_numbers(json.loads((FOLDER / name).read_text())) == []


def test_wide_numbers_are_found() -> None:
    assert wide_numbers({"a": [2**53, 1, {"b": -(2**53)}], "c": "9" * 30}) == [2**53, -(2**53)]


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"abc", bytes(1_000), b"head" + bytes(1_001), b"\xab" * 65_536]
)
def test_folded_bytes_unfold(value: bytes) -> None:
    folded = json.loads(json.dumps(plain(value)))
    assert unfold(folded) == value
    assert len(json.dumps(folded)) <= 2_002


def test_pieces_unfold() -> None:
    assert unfold(["01", repeat(b"\x02\x03", 2), ""]) == b"\x01\x02\x03\x02\x03"
