"""A damaged process refuses its data, and comes back as its guide says; `repair` is the campaign."""

import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.node.failures import DataRefused
from tests.chaos.arenas import Arenas
from tests.durability import repair
from tests.durability.observing import Facts
from tests.durability.repair import Flip, damage_and_repair, find_refused

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

SEED = 11


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arenas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arenas]:
    made = Arenas(tmp_path_factory.mktemp("repair"))
    yield made
    await made.close()


@pytest.mark.parametrize("process", ["alpha-0", "bridge", "sequencer", "settlement"])
async def test_what_is_damaged_is_refused_and_put_right(arenas: Arenas, process: str) -> None:
    async with arenas.case() as arena:
        await damage_and_repair(arena, process, random.Random(f"{SEED}/{process}"))


async def test_the_auditor_finds_nothing_afterwards(arenas: Arenas) -> None:
    assert await arenas.audit() is not None


async def test_it_turns_red_if_a_damaged_process_starts(
    arenas: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def harmless(*_: object) -> Flip:
        return Flip(Path("lock"), 0, 0)

    monkeypatch.setattr(repair, "find_refused", harmless)
    with pytest.raises(AssertionError, match="started on"):
        async with arenas.case() as arena:
            await damage_and_repair(arena, "alpha-0", random.Random(SEED))


async def test_a_flip_is_looked_for_that_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_bytes(bytes(4))

    async def observe(folder: Path) -> Facts:
        if (folder / "file").read_bytes()[2]:
            raise DataRefused("the third byte is damaged")
        shutil.rmtree(folder)
        return {}

    flip = await find_refused(data, observe, random.Random(SEED))
    assert (flip.file, flip.byte) == (Path("file"), 2)
    assert (data / "file").read_bytes() == bytes(4), "only copies are damaged"
