"""`lockstep receipt` on a devnet: a file that anybody verifies, and that no command replaces by mistake."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.command_line import Desk, desk_at_devnet, start_lockstep

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with desk_at_devnet(tmp_path_factory.mktemp("receipts") / "network") as made:
        yield made


async def traded(desk: Desk) -> str:
    """Let Alice and Bob trade, and return the swap's id."""
    terms = ("--give", "5.00:gold@alpha", "--get", "7.50:silver@beta", "--with", "bob", "--key", "alice")
    proposed = await desk.done("swap", "propose", *terms, "--reveal", "up-front")
    await desk.done("swap", "accept", proposed["swap_id"], "--key", "bob", "--yes", "--wait")
    swap_id: str = proposed["swap_id"]
    return swap_id


def genesis(desk: Desk) -> str:
    return str(desk.network.folder / "genesis.json")


async def test_a_receipt_is_got_and_verified_without_a_network(desk: Desk, tmp_path: Path) -> None:
    swap_id = await traded(desk)
    file = tmp_path / "swap.receipt"
    got = await desk.done("receipt", "get", swap_id[:10], "-o", str(file))
    assert (got["swap_id"], got["outcome"], got["file"]) == (swap_id, "COMMITTED", str(file))
    assert got["bytes"] == file.stat().st_size
    assert [(leg["amount"], leg["outcome"]) for leg in got["legs"]] == [("500", "PAID"), ("750", "PAID")]
    assert got["proves"]
    assert got["attests"]

    process = await start_lockstep(
        ("receipt", "verify", str(file), "--genesis", genesis(desk)), network=tmp_path / "nowhere"
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    process = await start_lockstep(("receipt", "verify", str(file)), network=tmp_path / "nowhere")
    _, complaints = await process.communicate()
    assert process.returncode == 2
    assert b"Name its genesis file with --genesis" in complaints
    words = out.decode()
    assert words.startswith(f"swap {swap_id}\nCOMMITTED\n")
    assert "5.00 gold" in words
    assert "This proves\n- " in words
    assert "This only attests\n- " in words
    verified = await desk.done("receipt", "verify", str(file))
    told: dict[str, Any] = {name: value for name, value in got.items() if name not in ("file", "bytes")}
    assert told.items() <= verified.items()


async def test_a_receipt_that_does_not_hold(desk: Desk, tmp_path: Path) -> None:
    file, changed = tmp_path / "swap.receipt", tmp_path / "changed.receipt"
    await desk.done("receipt", "get", await traded(desk), "-o", str(file))
    for place in (0, 200, file.stat().st_size - 1):
        encoded = bytearray(file.read_bytes())
        encoded[place] ^= 1
        changed.write_bytes(encoded)
        told = await desk.refused("receipt", "verify", str(changed), code=4)
        assert told["code"] == "RECEIPT_INVALID"
        assert "at step" in told["error"]
        assert "lockstep receipt get" in told["advice"]
    other = tmp_path / "genesis.json"
    other.write_bytes(Path(genesis(desk)).read_bytes() + b"\n")
    told = await desk.refused("receipt", "verify", str(file), "--genesis", str(other), code=4)
    assert "2 chain" in told["error"]
    assert (await desk.refused("receipt", "verify", str(tmp_path / "none"), code=2))["code"] == "USAGE"
    assert (await desk.type("receipt", "verify", str(changed))).code == 4


async def test_no_other_file_is_replaced(desk: Desk, tmp_path: Path) -> None:
    first, second = await traded(desk), await traded(desk)
    file = tmp_path / "swap.receipt"
    await desk.done("receipt", "get", first, "-o", str(file))
    kept = file.read_bytes()
    told = await desk.refused("receipt", "get", second, "-o", str(file), code=2)
    assert told["code"] == "FILE_EXISTS"
    assert "--force" in told["advice"]
    assert file.read_bytes() == kept
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert (await desk.refused("receipt", "get", first, "-o", str(notes), code=2))["code"] == "FILE_EXISTS"
    # A newer receipt of the same swap replaces an older one.
    again = await desk.done("receipt", "get", first, "-o", str(file))
    assert again["swap_id"] == first
    forced = await desk.done("receipt", "get", second, "-o", str(file), "--force")
    assert forced["swap_id"] == second
    assert {each.name for each in tmp_path.iterdir()} == {"notes.txt", "swap.receipt"}


async def test_what_there_is_no_receipt_of(desk: Desk, tmp_path: Path) -> None:
    file = str(tmp_path / "swap.receipt")
    unknown = await desk.refused("receipt", "get", "00" * 32, "-o", file, code=1)
    assert unknown["code"] == "UNKNOWN_SWAP"
    terms = ("--give", "5.00:gold@alpha", "--get", "7.50:silver@beta", "--with", "bob", "--key", "alice")
    proposed = await desk.done("swap", "propose", *terms)
    early = await desk.refused("receipt", "get", proposed["swap_id"], "-o", file, "--timeout", "1s", code=3)
    assert (early["code"], early["advice"]) == ("NOT_READY", "repeat the same command: it does nothing twice")
    assert "waiting until the swap is in the order" in early["error"]
    assert not Path(file).exists()
