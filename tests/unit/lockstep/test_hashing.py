"""Domains: the tags of the code are those of the specification, and no two of them can be confused."""

import json
import re
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import hashing
from lockstep.hashing import tag, tagged_hash
from tests.vectors import generate_signatures

ROOT = Path(__file__).parents[3]
VECTORS: dict[str, Any] = json.loads((Path(generate_signatures.__file__).parent / "hashing.json").read_text())

CONSTANTS = {
    name: value
    for name, value in vars(hashing).items()
    if isinstance(value, bytes) and name.isupper() and not name.startswith("_") and name != "ZERO_HASH"
}
"""The tags of the code by the names of their constants."""

TABLE = re.findall(
    r"^\| `([a-z-]+)` \| (hash|signature) \|", (ROOT / "protos" / "README.md").read_text(), re.M
)
"""The kinds of the specification."""


def test_the_constants_are_the_table_of_the_specification() -> None:
    assert {kind.upper().replace("-", "_"): tag(kind) for kind, _ in TABLE} == CONSTANTS


def test_kinds_of_signatures_are_named_so_and_disjoint_from_hashes() -> None:
    assert len(TABLE) == len({kind for kind, _ in TABLE}) == 18
    assert all((of == "signature") == kind.startswith("sign-") for kind, of in TABLE)


def test_no_tag_is_a_prefix_of_another() -> None:
    assert len(CONSTANTS) == len(set(CONSTANTS.values()))
    for one, other in permutations(CONSTANTS.values(), 2):
        assert not other.startswith(one)
    for value in CONSTANTS.values():
        assert value.startswith(b"lockstep/v1/")
        assert value.endswith(b"\x00")
        assert value.count(b"\x00") == 1


def test_tags_are_made_in_one_module() -> None:
    prefix = b"lockstep" + b"/v1/"
    # Generated stubs name their .proto files, which lie in a folder of that name; the auditor's second
    # implementation shares nothing.
    sources = [
        path
        for folder in ("protos", "sequencer", "rollups", "bridge", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        if "_pb2" not in path.name and ROOT / "deploy" / "audit" / "plain" not in path.parents
    ]
    assert [path.name for path in sources if b'"' + prefix in path.read_bytes()] == ["hashing.py"]


@given(st.sampled_from(sorted(CONSTANTS.values())), st.binary(max_size=100))
def test_a_hash_is_over_tag_and_body(tagged: bytes, body: bytes) -> None:
    assert tagged_hash(tagged, body) == sha256(tagged + body).digest()


def test_the_zero_hash_is_a_hash_of_zeros() -> None:
    assert not any(hashing.ZERO_HASH)
    assert len(hashing.ZERO_HASH) == 32


def test_the_vectors_have_every_kind() -> None:
    assert [(case["kind"], case["of"]) for case in VECTORS["kinds"]] == TABLE
    assert {case["kind"] for case in VECTORS["hashes"]} == {kind for kind, of in TABLE if of == "hash"}


@pytest.mark.parametrize("case", VECTORS["kinds"])
def test_kind_vectors(case: dict[str, Any]) -> None:
    assert CONSTANTS[case["kind"].upper().replace("-", "_")].hex() == case["tag"]
    assert bytes.fromhex(case["tag"]) == b"lockstep/v1/" + case["kind"].encode() + b"\x00"


@pytest.mark.parametrize("case", VECTORS["hashes"])
def test_hash_vectors(case: dict[str, Any]) -> None:
    tagged = CONSTANTS[case["kind"].upper().replace("-", "_")]
    assert tagged_hash(tagged, bytes.fromhex(case["body"])).hex() == case["hash"]
