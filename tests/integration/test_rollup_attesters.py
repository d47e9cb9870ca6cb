"""Several nodes of one rollup as processes: k of n attesters, standbys, and sets that change under way."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from lockstep.attesters import AttesterSet
from lockstep.header import genesis_tip
from lockstep.receipts import SettlementCode
from lockstep.register import Contradicted, Phase, Register, Voted, apply_block, genesis_register, input_of
from lockstep.registry import role_key_at
from lockstep.registry_entries import Action, RegistryChange, RotateAttester, SetAttesters, sign_change
from lockstep.swap_entries import Attest, AttestItem, decode_swap_entry
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    Height,
    PublicKey,
    SwapId,
)
from tests.integration.rollup_deals import Deal, make_deal
from tests.integration.rollup_network import Network, network
from tests.unit.rollups.chain import ALPHA, ANN, ATTESTERS, BETA, key, rollup

pytestmark = pytest.mark.processes

PROMPT_S = 5
"""What a swap may take here at most. Its deadline lies 30 s of log time ahead, a node's start takes one."""

THREE = {f"beta-{number}": f"attester {number} of beta" for number in range(3)}
TWO_OF_THREE = AttesterSet(2, tuple(key(name).public_key for name in THREE.values()))
OLD, NEW = ATTESTERS[BETA].public_key, key("new attester of beta").public_key
THREE_MORE = {"beta-1": "second attester of beta", "beta-2": "third attester of beta"}


@dataclass(frozen=True)
class Audit:
    """What the order says of attestations."""

    register: Register
    contradictions: int
    votes: Sequence[tuple[SwapId, int, PublicKey]]
    """Every vote that counted: swap, leg, key."""
    attested: Sequence[tuple[PublicKey, AttestItem]]
    """Every verdict in the order, whether or not it counted."""

    def voters(self, deal: Deal, leg: int) -> set[PublicKey]:
        return {key for swap_id, place, key in self.votes if (swap_id, place) == (deal.id, leg)}

    def speakers(self, deal: Deal, leg: int) -> set[PublicKey]:
        return {key for key, item in self.attested if (item.swap_id, item.leg) == (deal.id, leg)}


async def audit(net: Network) -> Audit:
    """Read the whole order again."""
    register, contradictions = genesis_register(net.genesis), 0
    votes: list[tuple[SwapId, int, PublicKey]] = []
    attested: list[tuple[PublicKey, AttestItem]] = []
    head = (await net.sequencer.status()).height
    following = net.sequencer.follow(
        tip=genesis_tip(net.genesis.chain_id, net.genesis.genesis_time_ms),
        namespaces=(SWAP_NAMESPACE, REGISTRY_NAMESPACE, LOG_NAMESPACE),
        sequencer_key=lambda height: role_key_at(register.registry, "sequencer", height),
    )
    async with aclosing(following) as blocks:
        async for followed in blocks:
            for entry in followed.block.entries[SWAP_NAMESPACE]:
                decoded = decode_swap_entry(entry.payload)
                if isinstance(decoded, Attest):
                    attested += [(decoded.attestation.attester, item) for item in decoded.attestation.items]
            register, events = apply_block(register, input_of(followed.block))
            for event in events:
                if isinstance(event, Voted):
                    attesters = event.record.legs[event.leg].attesters
                    votes.append((event.record.swap_id, event.leg, attesters.keys[event.vote.key_index]))
                contradictions += isinstance(event, Contradicted)
            if followed.block.header.height >= head:
                break
    return Audit(register, contradictions, votes, attested)


async def settle(net: Network, deal: Deal, *, on: str = "alpha-0") -> None:
    """Wait until a swap, which is completely ordered, has committed, which has to be soon."""
    async with asyncio.timeout(PROMPT_S):
        place = 0 if on.startswith("alpha") else 1
        assert (await deal.until_settled(on, place)).code == SettlementCode.COMMITTED


async def trade(net: Network) -> Deal:
    deal = await make_deal(net)
    await net.order(deal.open, *deal.locks, deal.reveal)
    await settle(net, deal)
    return deal


async def change_attesters(net: Network, action: Action, sequence: int = 1) -> Height:
    """Have governance change beta's attesters; return the height from which on it holds, once reached."""
    effective = Height((await net.sequencer.status()).height + 10)
    change = RegistryChange(net.genesis.chain_id, BETA, sequence, effective, action)
    await net.order((REGISTRY_NAMESPACE, sign_change(key("governance"), change)))
    await (await net.client("beta-0")).balances(ANN.public_key, min_height=effective)
    return effective


# --- k of n -----------------------------------------------------------------------------------------------


async def test_any_two_of_three_attesters_decide_at_once(tmp_path: Path) -> None:
    definitions = (rollup(ALPHA), rollup(BETA, attesters=TWO_OF_THREE))
    async with network(tmp_path, "alpha-0", *THREE, rollups=definitions, keys=THREE) as net:
        deals = [await trade(net)]
        for dead in THREE:
            await net.nodes[dead].kill()
            deals.append(await trade(net))
            await net.nodes[dead].start()
        for name in THREE:
            await settle(net, deals[-1], on=name)
        await net.verify_same(*THREE)
        found = await audit(net)
        assert all(len(found.voters(deal, 1)) >= 2 for deal in deals)
        assert found.contradictions == 0


async def test_a_swap_is_decided_when_an_attester_dies_in_the_middle_of_it(tmp_path: Path) -> None:
    definitions = (rollup(ALPHA), rollup(BETA, attesters=TWO_OF_THREE))
    async with network(tmp_path, "alpha-0", *THREE, rollups=definitions, keys=THREE) as net:
        dying = net.nodes["beta-1"]
        await dying.end()
        await dying.start("rollup.attest.before_send=kill@1")
        deal = await trade(net)
        assert await dying.ended() == -9, dying.log()
        # One alone is below the threshold: nothing is decided, and nothing is lost either.
        await net.nodes["beta-2"].kill()
        waiting = await make_deal(net)
        opened = await net.order(waiting.open, *waiting.locks, waiting.reveal)
        await waiting.until_phase("beta-0", Phase.REVEALED, opened.placement.height)
        beta = await net.client("beta-0")
        voted = await beta.swap(waiting.id, min_height=opened.placement.height + 20)
        assert voted.record is not None
        assert voted.record.phase == Phase.REVEALED
        await dying.start()
        await settle(net, waiting)
        await net.nodes["beta-2"].start()
        await settle(net, waiting, on="beta-2")
        await net.verify_same(*THREE)
        found = await audit(net)
        assert found.voters(deal, 1) >= {TWO_OF_THREE.keys[0], TWO_OF_THREE.keys[2]}
        assert found.voters(waiting, 1) == {TWO_OF_THREE.keys[0], TWO_OF_THREE.keys[1]}


@pytest.mark.parametrize(
    "failpoint", ["rollup.block.committed", "rollup.attest.before_send", "rollup.attest.sent"]
)
async def test_an_attester_that_was_killed_never_contradicts_itself(tmp_path: Path, failpoint: str) -> None:
    async with network(tmp_path, "alpha-0", "beta-0") as net:
        beta = net.nodes["beta-0"]
        deals = []
        for _ in range(2):
            await beta.end()
            await beta.start(f"{failpoint}=kill@1")
            deal = await make_deal(net)
            await net.order(deal.open, *deal.locks)
            assert await beta.ended() == -9, beta.log()
            await beta.start()
            await net.order(deal.reveal)
            await settle(net, deal)
            deals.append(deal)
        found = await audit(net)
        assert found.contradictions == 0
        for deal in deals:
            said = {item for _, item in found.attested if (item.swap_id, item.leg) == (deal.id, 1)}
            assert len(said) == 1, "one verdict, however often it was signed"
            assert found.voters(deal, 1) == {OLD}


# --- standbys ---------------------------------------------------------------------------------------------


async def test_a_standby_with_the_same_key_goes_on_without_a_pause(tmp_path: Path) -> None:
    keys = {"beta-1": "attester of beta"}
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1", keys=keys) as net:
        first = net.nodes["beta-0"]
        await trade(net)
        await first.end()
        await first.start("rollup.attest.before_send=kill@1")
        deals = [await trade(net)]
        assert await first.ended() == -9, first.log()
        deals.append(await trade(net))
        await first.start()
        deals.append(await trade(net))
        await settle(net, deals[-1], on="beta-0")
        await net.verify_same("beta-0", "beta-1")
        found = await audit(net)
        assert found.contradictions == 0
        assert all(found.voters(deal, 1) == {OLD} for deal in deals)


async def test_a_replica_answers_while_its_attester_is_dead_and_takes_over_with_its_key(
    tmp_path: Path,
) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1") as net:
        await trade(net)
        await net.nodes["beta-0"].kill()
        deal = await make_deal(net)
        opened = await net.order(deal.open, *deal.locks, deal.reveal)
        replica = await net.client("beta-1")
        found = await replica.swap(deal.id, min_height=opened.placement.height)
        assert found.record is not None
        assert found.record.phase == Phase.REVEALED
        assert found.escrows[1].amount == 40
        standby = net.nodes["beta-1"]
        await standby.end()
        standby.settings += '\nkey = "beta-0.pem"'
        await standby.start()
        await settle(net, deal)
        await settle(net, deal, on="beta-1")


# --- sets that change -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SET_ATTESTERS", "ROTATE_ATTESTER"])
async def test_legs_keep_the_attesters_of_their_opening(tmp_path: Path, kind: str) -> None:
    action: Action = (
        RotateAttester(OLD, NEW) if kind == "ROTATE_ATTESTER" else SetAttesters(AttesterSet(1, (NEW,)))
    )
    keys = {"beta-1": "new attester of beta"}
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1", keys=keys) as net:
        before = await make_deal(net)
        await net.order(before.open, before.locks[0])
        effective = await change_attesters(net, action)
        after = await trade(net)
        # Both are in flight at once: the older one is locked on beta only now.
        await net.order(before.locks[1], before.reveal)
        await settle(net, before)
        for name in ("beta-0", "beta-1"):
            await net.nodes[name].kill()
            await net.nodes[name].start()
        restarted = await trade(net)
        found = await audit(net)
        assert found.voters(before, 1) == found.speakers(before, 1) == {OLD}
        for deal in (after, restarted):
            assert found.voters(deal, 1) == found.speakers(deal, 1) == {NEW}
        assert found.register.height > effective
        for name in ("beta-0", "beta-1"):
            assert (await (await net.client(name)).status()).outbox_items == 0
        await net.verify_same("beta-0", "beta-1")


async def test_a_larger_set_and_a_key_that_leaves_it(tmp_path: Path) -> None:
    """From one attester to two of three, to a set without the first."""
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1", "beta-2", keys=THREE_MORE) as net:
        one = await trade(net)
        three = (OLD, *(key(name).public_key for name in THREE_MORE.values()))
        await change_attesters(net, SetAttesters(AttesterSet(2, three)))
        await net.nodes["beta-2"].kill()
        two = await trade(net)
        await net.nodes["beta-2"].start()
        await change_attesters(net, SetAttesters(AttesterSet(2, three[1:])), sequence=2)
        last = await trade(net)
        found = await audit(net)
        assert found.voters(one, 1) == {OLD}
        assert found.voters(two, 1) == set(three[:2])
        assert found.speakers(last, 1) == found.voters(last, 1) == set(three[1:])
