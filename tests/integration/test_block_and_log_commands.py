"""`lockstep block`, `lockstep log` on a devnet: what is shown is proven, a log that changes is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.node.chain_files import load_key
from lockstep.checkpoint import encode_checkpoint, parse_checkpoint, parse_note, sign_note
from tests.integration.command_line import DEADLINE_S, Desk, desk_at_devnet

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with desk_at_devnet(tmp_path_factory.mktemp("blocks") / "network") as made:
        yield made


def remembered(desk: Desk) -> Path:
    """Return the file of the newest checkpoint that was seen."""
    [file] = (desk.network.folder / "wallet").glob("settlement-*.checkpoint")
    return file


async def test_a_block_is_shown_with_its_entries_in_words(desk: Desk) -> None:
    paid = await desk.done("transfer", "5.25:gold@alpha", "--to", "bob", "--key", "alice")
    told = await desk.done("block", "show", str(paid["height"]))
    assert told["height"] == paid["height"]
    assert told["namespaces"]["alpha"] == 1
    [entry] = [each for each in told["entries"] if each["namespace"] == "alpha"]
    wanted = f"transaction {paid['transaction_id']}: alice transfers 5.25 gold on alpha to bob"
    assert entry["words"] == wanted
    words = (await desk.type("block", "show", str(paid["height"]))).out
    assert f"hash       {told['hash']}" in words
    assert wanted in words
    parent = await desk.done("block", "show", str(paid["height"] - 1))
    assert parent["hash"] == told["parent_hash"]


async def test_the_first_and_the_newest_block(desk: Desk) -> None:
    first = await desk.done("block", "show", "1")
    assert first["parent_hash"] == desk.network.genesis.chain_id.hex()
    latest, default = await desk.done("block", "show", "latest"), await desk.done("block", "show")
    assert 1 < latest["height"] <= default["height"]


async def test_a_block_that_is_not_there(desk: Desk) -> None:
    told = await desk.refused("block", "show", "1000000000", code=1)
    assert told["code"] == "NOT_YET"
    assert "the newest is" in told["error"]
    assert (await desk.refused("block", "show", "0", code=2))["code"] == "USAGE"


async def test_blocks_are_watched_as_they_come(desk: Desk) -> None:
    watching = await desk.start("block", "watch", "--from", "1", "--json")
    try:
        assert watching.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            lines = [json.loads(await watching.stdout.readline()) for _ in range(5)]
        assert [each["height"] for each in lines] == [1, 2, 3, 4, 5]
        assert lines[1]["parent_hash"] == lines[0]["hash"]
    finally:
        watching.send_signal(2)
        _, err = await watching.communicate()
    assert (watching.returncode, err) == (130, b""), "Ctrl-C is how it ends"


async def test_the_whole_log_is_verified_and_remembered(desk: Desk) -> None:
    first = await desk.done("log", "verify")
    assert first["extends_size"] is None
    assert first["evidence"] == []
    note = parse_checkpoint(parse_note(remembered(desk).read_bytes()).body)
    assert note.size >= first["size"]
    second = await desk.done("log", "verify")
    assert second["extends_size"] == note.size
    assert second["size"] >= note.size
    words = (await desk.type("log", "verify")).out
    assert "entries hold, from genesis on" in words


async def test_an_entry_and_the_state_of_the_log(desk: Desk) -> None:
    genesis = await desk.done("log", "show", "0")
    assert genesis["kind"] == "GenesisEntry"
    assert desk.network.genesis.chain_id.hex() in genesis["words"]
    status = await desk.done("log", "status")
    assert status["size"] > 1
    assert status["origin"] == desk.network.genesis.settlement.origin
    told = await desk.refused("log", "show", "1000000", code=1)
    assert told["code"] == "NOT_YET"
    assert "entries are numbered 0 to" in told["error"]


async def test_a_log_that_does_not_extend_what_was_seen_is_refused(desk: Desk) -> None:
    await desk.done("log", "verify")
    file = remembered(desk)
    honest = file.read_bytes()
    seen = parse_checkpoint(parse_note(honest).body)
    log_key = load_key(desk.network.folder / "keys" / "settlement.pem")
    for size in (3, seen.size + 1_000_000):
        # As if the log had signed another story before: the same key, another root or more entries.
        other = encode_checkpoint(seen.origin, size, bytes(32))
        file.write_bytes(
            sign_note(other, name=seen.origin, public_key=log_key.public_key, sign=log_key.sign_raw)
        )
        for words in (("log", "verify"), ("log", "show", "0"), ("log", "status")):
            told = await desk.refused(*words, code=4)
            assert told["code"] == "CONTRADICTION"
        assert file.read_bytes() != honest, "what was seen is not forgotten"
    file.write_text("damaged")
    told = await desk.refused("log", "verify", code=1)
    assert str(file) in told["error"]
    file.write_bytes(honest)
    await desk.done("log", "verify")


async def test_services_that_are_away_are_named(desk: Desk) -> None:
    await desk.devnet.kill("settlement")
    try:
        told = await desk.refused("log", "status", code=3)
        assert "the settlement log at" in told["error"]
        assert (await desk.type("block", "show")).code == 0, "nothing but the sequencer is needed"
    finally:
        await desk.devnet.start("settlement")
    await desk.devnet.kill("sequencer")
    try:
        told = await desk.refused("block", "show", code=3)
        assert told["code"] == "UNAVAILABLE_PEER"
        assert (await desk.type("log", "status")).code == 0, "nothing but the settlement log is needed"
    finally:
        await desk.devnet.start("sequencer")
