"""`lockstep swap` on a devnet: both sides of a trade, cycles, refusals, and what is said to go on with."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from bridge.client import Wallet
from tests.integration.command_line import Desk, desk_at_devnet

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

GIVE, GET = ("--give", "5.00:gold@alpha"), ("--get", "7.50:silver@beta")
GIVEN, GOT = ("--give", "7.50:silver@beta"), ("--get", "5.00:gold@alpha")
PROPOSE = ("swap", "propose", *GIVE, *GET, "--with", "bob", "--key", "alice")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with desk_at_devnet(tmp_path_factory.mktemp("swaps") / "network") as made:
        yield made


async def proposed(desk: Desk, *words: str) -> str:
    """Propose, and return the swap's id."""
    swap: str = (await desk.done(*PROPOSE, *words))["swap_id"]
    return swap


async def accepted(desk: Desk, *words: str) -> str:
    """Propose and accept, and return the swap's id."""
    swap = await proposed(desk, *words)
    await desk.done("swap", "accept", swap, *GIVEN, *GOT, "--key", "bob")
    return swap


def ends(told: Mapping[str, Any]) -> list[str | None]:
    return [None if leg["ended"] is None else leg["ended"]["code"] for leg in told["legs"]]


async def test_a_swap_from_both_sides_in_words(desk: Desk) -> None:
    told = await desk.type(*PROPOSE)
    assert told.code == 0, told
    head, others, command, *_ = told.out.splitlines()
    assert (head.split()[0], head.split()[2], others) == ("swap", "COLLECTING", "the others type:")
    swap = head.split()[1].removesuffix(":")
    assert command == f"lockstep swap accept {swap} --key bob"
    assert "lock given" in told.err
    told = await desk.type(*command.split()[1:], "--yes")
    assert told.code == 0, told
    assert "you give  7.50 silver on beta to alice" in told.err
    assert "you get   5.00 gold on alpha from alice" in told.err
    told = await desk.type("swap", "reveal", swap[:10], "--key", "alice")
    assert told.code == 0, told
    assert "escrow proven" in told.err
    assert told.out.startswith(f"swap {swap}: COMMITTED, after ")
    assert "went to bob in block" in told.out
    assert "went to alice in block" in told.out


async def test_a_swap_from_both_sides_for_programs(desk: Desk) -> None:
    swap = await accepted(desk)
    told = await desk.done("swap", "reveal", swap, "--key", "alice")
    assert (told["outcome"], ends(told)) == ("COMMITTED", ["COMMITTED", "COMMITTED"])
    assert [step["step"] for step in told["steps"]][-2:] == ["revealed", "COMMITTED"]
    assert all(isinstance(step["elapsed_ms"], int) for step in told["steps"])
    late = await desk.refused("swap", "cancel", swap, "--key", "alice", code=1)
    assert late["code"] == "COMMITTED"
    assert (await desk.done("swap", "resume", swap, "--key", "alice"))["ok"], "too late to want otherwise"
    resumed = await desk.done("swap", "accept", swap, "--key", "bob")
    assert (resumed["outcome"], ends(resumed)) == ("COMMITTED", ["COMMITTED", "COMMITTED"])
    again = await desk.done("swap", "resume", swap, "--key", "bob")
    assert (again["outcome"], again["steps"]) == ("COMMITTED", [])
    words = await desk.type("swap", "resume", swap, "--key", "bob")
    assert words.out.count("checked before") == 2


@pytest.mark.parametrize("policy", ["up-front", "delegated"])
async def test_a_swap_that_reveals_itself(desk: Desk, policy: str) -> None:
    words = await desk.type(*PROPOSE, "--reveal", policy)
    swap = words.out.split()[1].removesuffix(":")
    assert words.out.endswith(f"to see it to its end:\nlockstep swap resume {swap} --key alice\n")
    told = await desk.done("swap", "accept", swap, *GIVEN, *GOT, "--key", "bob", "--wait")
    assert told["outcome"] == "COMMITTED"


async def test_three_parties_in_a_circle_and_a_premium_that_is_paid(desk: Desk) -> None:
    told = await desk.done(
        *("swap", "propose", "--key", "alice", "--premium", "0.10"),
        *("--leg", "alice:bob:1.00:gold@alpha", "--leg", "bob:carol:2.00:silver@beta"),
        *("--leg", "carol:alice:3.00:copper@gamma"),
    )
    swap = told["swap_id"]
    assert told["next"] == [f"lockstep swap accept {swap} --key {name}" for name in ("bob", "carol")]
    for name in ("bob", "carol"):
        await desk.done("swap", "accept", swap, "--yes", "--key", name)
    view = await watched(desk, swap, "LOCKED")
    assert [leg["state"] for leg in view["legs"]] == ["LOCKED"] * 3
    told = await desk.done("swap", "cancel", swap, "--key", "alice")
    assert (told["outcome"], told["reason"]) == ("ABORTED", "CANCELLED"), "it is seen to its end"
    assert ends(told) == ["ABORTED", None, "ABORTED"], "the leg between the others is not for alice to check"
    assert told["legs"][0]["ended"]["premium_outcome"] == "PAID"
    lost = await desk.refused("swap", "resume", swap, "--key", "bob", code=1)
    assert (lost["outcome"], lost["reason"]) == ("ABORTED", "CANCELLED"), "bob did not want that"


async def watched(desk: Desk, swap: str, phase: str) -> Mapping[str, Any]:
    """Return the first change by which a swap is in a phase."""
    process = await desk.start("swap", "watch", swap, "--json")
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            view: Mapping[str, Any] = json.loads(line)
            if view["phase"] == phase:
                return view
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    raise AssertionError(f"it never was {phase}")


async def test_what_the_rollups_prove(desk: Desk) -> None:
    swap = await accepted(desk)
    await watched(desk, swap, "LOCKED")
    told = await desk.done("swap", "show", swap, "--proven")
    assert [leg["state"] for leg in told["legs"]] == ["LOCKED", "LOCKED"]
    await desk.devnet.kill("bridge")
    told = await desk.done("swap", "show", swap[:12])
    assert (told["phase"], told["source"][:22]) == ("LOCKED", "the rollups' register ")
    words = await desk.type("swap", "show", swap)
    assert "proven by the rollups' register at height" in words.out
    told = await desk.done("swap", "cancel", swap, "--key", "alice", "--wait")
    assert told["outcome"] == "ABORTED"
    await desk.devnet.start("bridge")


async def test_what_can_be_looked_at(desk: Desk) -> None:
    swap = await accepted(desk)
    await desk.done("swap", "reveal", swap, "--key", "alice")
    shown = await desk.done("swap", "show", swap[:12])
    assert (shown["swap_id"], shown["phase"]) == (swap, "COMMITTED")
    explained = await desk.done("swap", "explain", swap[:12])
    kinds = [event["kind"] for event in explained["events"]]
    assert {"proposed", "given", "opened", "attested", "revealed", "decided"} <= set(kinds)
    told = await desk.type("swap", "watch", swap, "--json")
    assert told.code == 0, "it ends with the swap"
    assert json.loads(told.out.splitlines()[-1])["phase"] == "COMMITTED"
    for words in (("show", swap), ("explain", swap), ("watch", swap), ("list", "--all")):
        told = await desk.type("swap", *words)
        assert told.code == 0, told
        assert "COMMITTED" in told.out
        assert swap[:12] in told.out
    listed = await desk.done("swap", "list", "--account", "alice")
    [mine] = [each for each in listed["wallet"] if each["swap_id"] == swap]
    assert (mine["role"], mine["outcome"], mine["locks_signed"]) == ("proposer", "COMMITTED", [0])
    still_open = await desk.done("swap", "list", "--account", "alice", "--open")
    assert swap not in {each["swap_id"] for each in still_open["wallet"]}


# --- what is refused, and what is said to do --------------------------------------------------------------


async def test_terms_that_are_not_as_expected_are_not_signed(desk: Desk) -> None:
    swap = await proposed(desk)
    told = await desk.refused("swap", "accept", swap, *GIVEN, "--get", "6:gold@alpha", "--key", "bob", code=1)
    assert told["code"] == "NOT_AS_EXPECTED"
    assert "5.00 gold on alpha" in told["error"]
    told = await desk.refused("swap", "accept", swap, *GIVEN, "--key", "bob", code=2)
    assert "--yes" in told["advice"], "half of what is expected is not enough where nobody can be asked"
    told = await desk.refused("swap", "accept", swap[:15], "--yes", "--key", "bob", code=2)
    assert "16 digits" in told["advice"]
    told = await desk.refused(
        "swap", "accept", swap, *GIVEN, *GOT, "--held-at-most", "1s", "--key", "bob", code=1
    )
    assert told["code"] == "HELD_TOO_LONG"
    told = await desk.refused("swap", "accept", swap, "--yes", "--key", "carol", code=1)
    assert "carol gives nothing" in told["error"]
    view = await desk.done("swap", "show", swap)
    assert [leg["state"] for leg in view["legs"]] == ["GIVEN", "AWAITED"]
    wallet = Wallet(desk.network.folder / "wallet")
    assert wallet.get(bytes.fromhex(swap), desk.network.traders["bob"].public_key) is None  # type: ignore[arg-type]


async def test_funds_are_held_for_minutes_unless_one_says_so(desk: Desk) -> None:
    swap = await proposed(desk, "--reveal-within", "11m")
    told = await desk.refused("swap", "accept", swap, *GIVEN, *GOT, "--key", "bob", code=1)
    assert told["code"] == "HELD_TOO_LONG"
    await desk.done("swap", "accept", swap, "--yes", "--held-at-most", "12m", "--key", "bob")
    await desk.done("swap", "cancel", swap, "--key", "alice")


async def test_what_is_not_there_is_warned_of(desk: Desk) -> None:
    much = ("--give", "99999999.00:gold@alpha")
    told = await desk.done(*PROPOSE[:2], *much, *PROPOSE[4:], "--lock-within", "2s")
    assert ["99999999.00 gold" in each for each in told["warnings"]] == [True]
    words = await desk.type("swap", "propose", *much, *PROPOSE[4:], "--lock-within", "2s")
    assert "warning: alpha holds" in words.err


async def test_a_swap_that_is_not_in_the_order_is_cancelled_as_soon_as_it_is(desk: Desk) -> None:
    swap = await proposed(desk)
    told = await desk.done("swap", "cancel", swap, "--key", "alice", "--no-wait")
    assert told["outcome"] is None
    assert ["can still open" in each for each in told["warnings"]] == [True]
    cancelling = await desk.start("swap", "cancel", swap, "--key", "alice", "--json")
    await desk.done("swap", "accept", swap, *GIVEN, *GOT, "--key", "bob")
    out, _ = await cancelling.communicate()
    assert cancelling.returncode == 0, out
    assert json.loads(out)["reason"] == "CANCELLED", "and not NOT_REVEALED"


async def test_a_swap_that_is_cancelled_and_never_opened_lapses(desk: Desk) -> None:
    swap = await proposed(desk, "--lock-within", "2s")
    told = await desk.done("swap", "cancel", swap, "--key", "alice")
    assert (told["outcome"], told["warnings"]) == ("LAPSED", [])


async def test_only_the_proposer_reveals_and_cancels(desk: Desk) -> None:
    swap = await proposed(desk)
    for accepts in (False, True):
        if accepts:
            await desk.done("swap", "accept", swap, *GIVEN, *GOT, "--key", "bob")
        for verb in ("reveal", "cancel"):
            told = await desk.refused("swap", verb, swap, "--key", "bob", code=1)
            assert "only who proposed" in told["error"]
            assert told["error"].endswith("it: alice")
    told = await desk.refused("swap", "resume", swap, "--key", "carol", code=1)
    assert f"swap accept {swap} --key carol" in told["advice"]
    await desk.done("swap", "cancel", swap, "--key", "alice", "--wait")
    again = await desk.done("swap", "cancel", swap, "--key", "alice")
    assert again["outcome"] == "ABORTED"


async def test_a_swap_that_lapsed_is_a_failure_with_its_reason(desk: Desk) -> None:
    told = await desk.refused(*PROPOSE, "--wait", "--lock-within", "500ms", code=1)
    assert (told["outcome"], ends(told)) == ("LAPSED", ["NEVER_LOCKED", "NEVER_LOCKED"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("accept", "zz", "--key", "bob"), 2, "is no swap"),
        (("accept", "00112233", "--key", "bob"), 1, "knows a swap 00112233"),
        (("accept", "00" * 32, "--key", "bob"), 1, "knows a swap 0000"),
        (("propose", *GIVE, "--key", "alice"), 2, "go together"),
        (("propose", *GIVE, *GET, "--with", "alice", "--key", "alice"), 2, "the same account"),
        (("propose", "--leg", "alice:bob:1:gold@alpha", "--key", "alice"), 2, "2 to 16 legs"),
        (("propose", "--leg", "alice:bob:1:gold", "--key", "alice"), 2, "AMOUNT:ASSET@ROLLUP"),
        ((*PROPOSE[1:], "--lock-within", "60s"), 2, "at most 59s"),
        ((*PROPOSE[1:], "--reveal-within", "4s"), 2, "at least 5s"),
        ((*PROPOSE[1:], "--premium", "0.001"), 2, "digits behind the point"),
        (("resume", "--key", "alice"), 2, "--all"),
    ],
)
async def test_what_cannot_be_meant(desk: Desk, words: tuple[str, ...], code: int, said: str) -> None:
    told = await desk.refused("swap", *words, code=code)
    assert said in told["error"]


# --- what is gone on with ---------------------------------------------------------------------------------


async def test_everything_open_is_resumed_at_once(desk: Desk) -> None:
    for key in ("alice", "bob"):
        # What other tests left may have ended as its trader did not want.
        await desk.type("swap", "resume", "--all", "--key", key)
    swaps = {await accepted(desk) for _ in range(2)}
    for key in ("alice", "bob"):
        told = await desk.done("swap", "resume", "--all", "--key", key)
        assert {each["swap_id"]: each["outcome"] for each in told["swaps"]} == dict.fromkeys(
            swaps, "COMMITTED"
        )
        assert (await desk.done("swap", "resume", "--all", "--key", key))["swaps"] == []


async def test_without_its_wallet_a_swap_is_taken_up_from_the_coordinator(desk: Desk) -> None:
    swap = await accepted(desk)
    shutil.rmtree(desk.network.folder / "wallet")
    for key in ("alice", "bob"):
        told = await desk.done("swap", "resume", swap[:12], "--key", key)
        assert told["outcome"] == "COMMITTED"


async def test_who_stops_a_command_is_told_how_to_go_on(desk: Desk) -> None:
    process = await desk.start(*PROPOSE, "--wait", "--lock-within", "5s")
    assert process.stderr is not None
    said = b""
    while b"lock given" not in said:
        said += await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, rest = await process.communicate()
    assert process.returncode == 130
    swap = said.split()[1].decode()
    assert f"`lockstep swap resume {swap} --key alice`".encode() in rest


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
async def test_on_a_terminal_one_is_asked(desk: Desk, answer: bytes, code: int) -> None:
    swap = await proposed(desk)
    terminal, end = os.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "deploy.cli", "swap", "accept", swap, "--key", "bob"),
            env=os.environ | {"LOCKSTEP_NETWORK": str(desk.network.folder)},
            stdin=end,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        os.write(terminal, answer)
        _, said = await process.communicate()
    finally:
        os.close(terminal)
        os.close(end)
    assert process.returncode == code, said
    assert b"you give  7.50 silver on beta to alice" in said
    assert (b"nothing was signed" in said) is (code == 1)
    assert b"Agree and sign?" in said


async def test_a_proposal_that_nobody_answers_is_kept_and_gone_on_with(desk: Desk) -> None:
    await desk.devnet.kill("bridge")
    told = await desk.refused(*PROPOSE, "--timeout", "1s", code=3)
    shown = await desk.refused("swap", "show", "00", code=3)
    assert shown["code"] == "UNAVAILABLE_PEER"
    [word, *words] = told["advice"].partition("`")[2].partition("`")[0].split()
    assert word == "lockstep"
    assert words[:2] == ["swap", "resume"], "to repeat the command would be another swap"
    await desk.devnet.start("bridge")
    told = await desk.refused(*words, "--timeout", "1s", code=3)
    view = await desk.done("swap", "show", words[2])
    assert [leg["state"] for leg in view["legs"]] == ["GIVEN", "AWAITED"], "now it is proposed"
