"""The second implementation: what it shares with the first, and that both come to the same bytes.

More comparing is done where histories are written: every `Replica` of the rollups' tests and every registry
of the registry's is compared with the plain one, and so is the register in its own.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import deploy.audit.plain
from deploy.audit.plain.registry import Registry
from deploy.audit.plain.trees import Growing, Map
from lockstep.genesis import parse_genesis
from lockstep.merkle import leaf_hash, root_of
from lockstep.merkle_map import MerkleMap, key_hash, value_hash
from tests.test_tidy import ROOT, load
from tests.unit.rollups.histories import History
from tests.vectors import generate_registry

SHARED = {"lockstep.errors", "lockstep.genesis", "lockstep.signing"}
"""All that the plain implementation takes from the first one, as its package says."""

FIRST = ("rollups", "sequencer", "bridge", "lockstep.register", "lockstep.registry", "lockstep.merkle_map")
"""What must not be reached by any way."""


def test_it_shares_nothing_but_the_verifier_and_the_genesis_file() -> None:
    modules = {name: each for name, each in load(ROOT).items() if name.startswith("deploy.audit.plain")}
    assert len(modules) > 5
    for name, module in modules.items():
        for line, imported in module.imports():
            top = imported.split(".")[0]
            if top not in ("lockstep", "rollups", "sequencer", "bridge", "deploy", "tests"):
                continue
            is_own = imported.startswith("deploy.audit.plain.")
            assert is_own or imported.rpartition(".")[0] in SHARED | {"lockstep"}, (
                f"{name}:{line}: {imported}"
            )
            assert imported.count(".") > 1 or imported in SHARED, f"{name}:{line}: {imported}"


def test_nothing_of_the_first_is_loaded_with_it() -> None:
    names = [file.stem for file in Path(deploy.audit.plain.__path__[0]).glob("*.py")]
    script = "import sys\n"
    script += "".join(f"import deploy.audit.plain.{name}\n" for name in names if name != "__init__")
    script += f"print([name for name in sys.modules if name.startswith({FIRST!r})])"
    path = {"PYTHONPATH": f"{ROOT / 'protos'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# --- trees ------------------------------------------------------------------------------------------------

keys = st.integers(0, 40).map(lambda number: b"key %d" % number)
batches = st.lists(st.lists(st.tuples(keys, st.none() | st.binary(max_size=2)), max_size=12), max_size=12)


@given(batches)
def test_the_map_is_the_one_of_the_first(history: list[list[tuple[bytes, bytes | None]]]) -> None:
    plain, first = Map(), MerkleMap()
    for batch in history:
        for key, value in batch:
            plain.put(key, value)
            first = first.update([(key_hash(key), None if value is None else value_hash(value))])
        assert plain.root() == first.root
        assert plain.root() == first.root
    for key in {key for batch in history for key, _ in batch}:
        plain.put(key, None)
    assert plain.root() == MerkleMap().root
    assert not plain.leaves


@given(st.lists(st.binary(max_size=3), max_size=70))
def test_the_growing_tree_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    tree = Growing()
    for size, leaf in enumerate(leaves):
        assert tree.root() == root_of([leaf_hash(each) for each in leaves[:size]])
        tree.add(leaf)
    assert tree.root() == root_of(list(map(leaf_hash, leaves)))


# --- histories --------------------------------------------------------------------------------------------


def test_the_registry_keeps_to_the_vector() -> None:
    vectors = json.loads((Path(generate_registry.__file__).parent / "registry.json").read_text())
    registry = Registry(parse_genesis(vectors["genesis"].encode()))
    assert registry.digest().hex() == vectors["history"]["initial"]
    for block in vectors["history"]["blocks"]:
        registry.take_effect(int(block["height"]), int(block["time_ms"]))
        for each in block["entries"]:
            registry.judge(int(block["height"]), each["index"], bytes.fromhex(each["payload"]))
        assert registry.digest().hex() == block["digest"]


@pytest.mark.parametrize("seed", range(100, 104))
def test_two_rollups_that_trade_for_long(seed: int) -> None:
    """Long histories; `Replica` compares every commitment and every receipt."""
    dice = random.Random(seed)
    history = History()
    history.play([(dice.randrange(1_000), dice.randrange(1_000), dice.randrange(1_000)) for _ in range(400)])
    history.finish()
    assert all(replica.plain is not None for replica in history.replicas.values())
    assert history.decided
