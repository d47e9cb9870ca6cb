"""The registry of a running chain changes, and every process honours it: with swaps open, keys in use."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.client import BridgeClient, SwapPhase
from bridge.settlement.client import SettlementClient
from deploy.devnet.clients import until
from lockstep.errors import LockstepError, ReadOnly
from lockstep.genesis import encode_rollup_definition
from lockstep.receipts import SettlementCode
from lockstep.register import Phase
from lockstep.settlement_entries import GenesisEntry, encode_settlement_entry
from lockstep.types import Height, PublicKey, RollupId
from rollups.client import RollupClient
from sequencer.client import SequencerClient
from tests.integration.registry_network import (
    change,
    deal,
    key_file,
    lockstep,
    lockstep_rollup,
    network_file,
    start_node,
)
from tests.integration.rollup_network import Network, Node, network
from tests.unit.rollups.chain import ALPHA, ANN, ATTESTERS, BETA, BOB, PREIMAGE, key, rollup

pytestmark = pytest.mark.processes

GAMMA = RollupId("gamma")
ATTESTERS.setdefault(GAMMA, key("attester of gamma"))


async def anchored_above(log: SettlementClient, name: str, height: int) -> None:
    """Wait until the settlement log has a commitment of a rollup above a height."""

    async def look() -> bool | None:
        anchored = (await log.status()).rollups.get(name)
        return (anchored is not None and anchored.height > height) or None

    await until(look, f"a commitment of {name} above {height}")


async def test_a_third_rollup_joins_swaps_and_is_anchored(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0") as net:
        definition = tmp_path / "gamma.json"
        definition.write_bytes(encode_rollup_definition(rollup(GAMMA)))
        # The node may be there before its rollup is.
        node = await start_node(net, "gamma-0", attester="attester of gamma")
        done = await change(net, "register", "--definition", str(definition))
        gamma = await net.client("gamma-0")
        assert await gamma.balance(ANN.public_key, "gold", min_height=done["effective_height"]) == 1_000

        swap = await deal(net, ALPHA, GAMMA)
        await net.order(swap.open, *swap.locks, swap.reveal)
        receipts = await swap.settled("alpha-0", "gamma-0")
        assert {each.code for each in receipts} == {SettlementCode.COMMITTED}
        height = max(each.height for each in receipts)
        assert await gamma.balance(ANN.public_key, "gold", min_height=height) == 1_040
        assert await gamma.balance(BOB.public_key, "gold", min_height=height) == 960

        # Nobody but the sequencer told the log who speaks for gamma.
        async with SettlementClient(net.nodes["settlement"].address, net.genesis) as log:
            await anchored_above(log, "gamma", done["effective_height"])
        await node.kill()
        await node.start()
        assert await gamma.balance(BOB.public_key, "gold", min_height=height) == 960


async def test_a_sequencer_that_dies_before_it_tells_the_log_tells_it_later(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        sequencer = net.nodes["sequencer"]
        await sequencer.end()
        await sequencer.start("sequencer.registration.before_send=kill@1")
        definition = tmp_path / "gamma.json"
        definition.write_bytes(encode_rollup_definition(rollup(GAMMA)))
        # Whether the command sees its change accepted before the sequencer dies is open.
        key_of_governance = ("--key", str(key_file(net, "governance")))
        await lockstep_rollup(net, "register", "--definition", str(definition), *key_of_governance)
        assert await sequencer.ended() < 0
        await sequencer.start()
        shown = (await lockstep_rollup(net, "show")).json
        assert GAMMA in {
            *(each["id"] for each in shown["rollups"]),
            *(each["subject"] for each in shown["pending"]),
        }
        await start_node(net, "gamma-0", attester="attester of gamma")
        async with SettlementClient(net.nodes["settlement"].address, net.genesis) as log:
            await anchored_above(log, "gamma", shown["height"])


async def test_a_draining_rollup_finishes_open_swaps_and_gets_no_new_ones(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0") as net:
        swap = await deal(net, ALPHA, BETA)
        opened = await net.order(swap.open, *swap.locks)
        drained = await change(net, "drain", "beta")
        assert drained["effective_height"] > opened.placement.height

        late = await deal(net, ALPHA, BETA)
        with pytest.raises(LockstepError) as refusal:
            await net.order(late.open)
        assert refusal.value.code == "USELESS_ENTRY"

        await net.order(swap.reveal)
        receipts = await swap.settled("alpha-0", "beta-0")
        assert {each.code for each in receipts} == {SettlementCode.COMMITTED}
        assert min(each.height for each in receipts) > drained["effective_height"]
        # It leaves no sooner than a day of log time later.
        left = await change(net, "leave", "beta", wait=False)
        for _ in range(2):
            shown = (await lockstep_rollup(net, "show")).json
            assert shown["height"] > left["ordered_height"]
            assert [each["status"] for each in shown["rollups"]] == ["ACTIVE", "DRAINING"]
            assert [each["kind"] for each in shown["pending"]] == ["LEAVE"]
            await reached(net, left["effective_height"] + 1)


async def reached(net: Network, height: int) -> None:
    async def look() -> bool | None:
        return (await net.sequencer.status()).height >= height or None

    await until(look, f"block {height}")


async def test_attesters_change_at_their_height_and_open_swaps_keep_theirs(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0") as net:
        # Opened under the old attesters of beta; what they have to attest comes after the change.
        swap = await deal(net, ALPHA, BETA)
        await net.order(swap.open, swap.locks[0])
        done = await change(
            net, "rotate", "beta", "--new-key", str(key_file(net, "successor")), "--old-key", str(old(net))
        )
        new = await start_node(net, "beta-2", attester="successor")
        beta = await net.client("beta-2")
        await beta.balances(ANN.public_key, min_height=done["effective_height"])

        await net.order(swap.locks[1], swap.reveal)
        receipts = await swap.settled("alpha-0", "beta-0")
        assert {each.code for each in receipts} == {SettlementCode.COMMITTED}
        assert min(each.height for each in receipts) > done["effective_height"]

        # A swap opened under the new set needs the new one, whatever the old one says.
        await new.kill()
        after = await deal(net, ALPHA, BETA)
        opened = await net.order(after.open, *after.locks, after.reveal)
        alpha = await net.client("alpha-0")
        held = await alpha.swap(after.id, min_height=opened.placement.height + 20)
        assert held.record is not None
        assert held.record.phase is not Phase.COMMITTED
        await new.start()
        await after.settled("alpha-0", "beta-2")
        async with SettlementClient(net.nodes["settlement"].address, net.genesis) as log:
            await anchored_above(log, "beta", done["effective_height"])


def old(net: Network) -> Path:
    return key_file(net, "attester of beta")


async def start_bridge(net: Network) -> Node:
    """Start a bridge coordinator."""
    node = Node("bridge", "bridge", net.folder, f'sequencer = "{net.nodes["sequencer"].address}"')
    assert isinstance(net.nodes, dict)
    net.nodes["bridge"] = node
    await node.start()
    return node


def keys_with(net: Network, takes_over: int, new: PublicKey) -> Callable[[Height], PublicKey]:
    """Return whose header counts at which height."""
    return lambda height: new if height >= takes_over else net.genesis.sequencer


async def test_the_sequencers_key_is_replaced_and_everybody_goes_on(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0") as net:
        coordinator = await start_bridge(net)
        before = await deal(net, ALPHA, BETA)
        await net.order(before.open, *before.locks)
        file = key_file(net, "next sequencer")
        new = key("next sequencer").public_key
        done = await change(net, "rotate", "sequencer", "--new-key", str(file), wait=False)
        takes_over = done["effective_height"]
        sequencer = net.nodes["sequencer"]

        async def look() -> bool | None:
            return bool((await net.sequencer.status()).read_only_reason) or None

        await until(look, "the sequencer to stop at the other key's first block")
        with pytest.raises(ReadOnly):
            await net.order(before.reveal)
        assert await sequencer.end() == 0
        sequencer.settings = sequencer.settings.replace("sequencer.pem", file.name)
        await sequencer.start()

        at = keys_with(net, takes_over, new)
        net.sequencer = await net.stack.enter_async_context(
            SequencerClient(sequencer.address, net.genesis, sequencer_key=at)
        )
        for name in ("alpha-0", "beta-0"):
            client = RollupClient(
                net.nodes[name].address, net.genesis, name.partition("-")[0], sequencer_key=at
            )
            net.clients[name] = await net.stack.enter_async_context(client)
        revealed = await net.order(before.reveal)
        assert revealed.placement.height >= takes_over
        await before.settled("alpha-0", "beta-0")
        async with BridgeClient(coordinator.address, net.genesis, sequencer_key=at) as bridge:
            after = await deal(net, ALPHA, BETA)
            await bridge.propose(after.terms_bytes, idempotency_key=b"after")
            for place, (_, payload) in enumerate(after.locks):
                await bridge.accept(after.id, place, payload)
            assert (await bridge.wait_until(after.id, [SwapPhase.LOCKED])).phase is SwapPhase.LOCKED
            await bridge.reveal(after.id, PREIMAGE)
            await after.settled("alpha-0", "beta-0")
            assert (await bridge.swap(before.id)).phase is SwapPhase.COMMITTED
        # Who took the new key for a stranger's would go on too, but by sending again and again.
        for name in ("bridge", "alpha-0", "beta-0"):
            assert "does not verify" not in net.nodes[name].log()

        # The log took headers under the new key, and commitments behind them.
        async with SettlementClient(net.nodes["settlement"].address, net.genesis, sequencer_key=at) as log:
            for name in ("alpha", "beta"):
                await anchored_above(log, name, takes_over)
        # The command line follows across it, and so does a node from the start.
        shown = (await lockstep_rollup(net, "show")).json
        assert shown["keys"]["sequencer"] == new.hex()
        where = str(network_file(net))
        block = await lockstep("block", "show", "--json", LOCKSTEP_NETWORK=where)
        assert block.json["height"] >= takes_over
        balances = await lockstep("account", "balance", ANN.public_key.hex(), LOCKSTEP_NETWORK=where)
        assert (balances.code, "10.80" in balances.out) == (0, True), balances
        await start_node(net, "beta-3", attester=None)
        replica = RollupClient(net.nodes["beta-3"].address, net.genesis, "beta", sequencer_key=at)
        net.clients["beta-3"] = await net.stack.enter_async_context(replica)
        assert await replica.balance(ANN.public_key, "gold", min_height=takes_over + 1) == 1_080


async def test_the_settlement_logs_key_is_replaced_and_everybody_goes_on(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0") as net:
        file, node = key_file(net, "next log"), net.nodes["settlement"]
        new = key("next log").public_key
        done = await change(net, "rotate", "settlement", "--new-key", str(file))
        first = encode_settlement_entry(GenesisEntry(net.genesis.chain_id, net.genesis.settlement.origin))
        async with SettlementClient(node.address, net.genesis) as log:

            async def look() -> str | None:
                try:
                    await log.append(first)
                except ReadOnly as error:
                    return error.reason
                return None

            assert "another key" in await until(look, "the log to stop at the other key's first header")
            seen = await log.checkpoint()
        # Its outage hinders nobody.
        swap = await deal(net, ALPHA, BETA)
        await net.order(swap.open, *swap.locks, swap.reveal)
        await swap.settled("alpha-0", "beta-0")
        assert await node.end() == 0
        node.settings = node.settings.replace("settlement.pem", file.name)
        await node.start()
        async with SettlementClient(node.address, net.genesis, seen=seen, log_key=lambda: new) as log:
            for name in ("alpha", "beta"):
                await anchored_above(log, name, done["effective_height"] + 8)
        verified = await lockstep("log", "verify", "--json", LOCKSTEP_NETWORK=str(network_file(net)))
        assert verified.code == 0, verified
        assert verified.json["anchored_height"] > done["effective_height"]


async def test_a_key_announces_its_own_replacement_and_governance_need_not_sign(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0") as net:
        file = key_file(net, "successor")
        done = await change(
            net, "rotate", "alpha", "--new-key", str(file), by="attester of alpha", wait=False
        )
        assert done["signed_by"] == "SUBJECT"
        ahead = done["effective_height"] - done["ordered_height"]
        assert ahead >= net.genesis.rotation_delay_blocks
        # One at a time: what a thief signs cannot fill the registry.
        again = await lockstep_rollup(
            net,
            "rotate",
            "alpha",
            "--new-key",
            key("third").public_key.hex(),
            "--key",
            str(key_file(net, "attester of alpha")),
        )
        assert again.code == 1
        assert "still pending" in again.json["error"]
        # Governance has until then to withdraw it.
        vetoed = await change(net, "veto", "alpha", "1")
        assert (vetoed["kind"], vetoed["sequence"], vetoed["outcome"]) == ("VETO", 2, "EFFECTIVE")
        shown = (await lockstep_rollup(net, "show")).json
        assert shown["pending"] == []
        await reached(net, done["effective_height"] + 1)
        shown = (await lockstep_rollup(net, "show")).json
        assert shown["rollups"][0]["attesters"] == [ATTESTERS[ALPHA].public_key.hex()]
        missing = await lockstep_rollup(net, "veto", "alpha", "1", "--key", str(key_file(net, "governance")))
        assert "names no change that is pending" in missing.json["error"]
        # Whoever signed them, the settlement log knows of both, and goes on.
        async with SettlementClient(net.nodes["settlement"].address, net.genesis) as log:
            await anchored_above(log, "alpha", done["effective_height"] + 8)


async def test_the_log_goes_on_behind_a_key_that_replaced_itself(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0") as net:
        settlement = net.nodes["settlement"].address
        own = await change(
            net,
            *("rotate", "alpha", "--new-key", str(key_file(net, "successor")), "--settlement", settlement),
            by="attester of alpha",
        )
        assert (own["signed_by"], own["settlement_error"]) == ("SUBJECT", "")
        await start_node(net, "alpha-2", attester="successor")
        async with SettlementClient(settlement, net.genesis) as log:
            await anchored_above(log, "alpha", own["effective_height"])
            after = await change(net, "rotate", "alpha", "--new-key", str(key_file(net, "third")))
            await start_node(net, "alpha-3", attester="third")
            await anchored_above(log, "alpha", after["effective_height"])
