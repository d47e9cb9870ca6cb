"""A slice of `lockstep chaos`: random faults on a whole network under load, from a seed.

The campaign is `tests/chaos/random_campaign.py`; a longer run is `lockstep chaos --for 10m`.
"""

import dataclasses
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bridge.client import SwapPhase
from deploy.chaos.command import replay_of
from deploy.chaos.faults import ALL_KINDS, NETWORK_KINDS, SEQUENCER, SETTLEMENT, Kind, Targets, schedule
from deploy.chaos.network import BRIDGES, LINK_NAMES, SERVICES, TRADERS
from deploy.chaos.running import HISTORY_FILE, Plan, run_chaos
from deploy.chaos.trader.deals import Conduct, deal_of
from deploy.chaos.trader.journal import read_journal
from deploy.devnet.network import ASSET_OF, NODES_OF
from tests.chaos.forks import fork_server

SEED = 20
SLICE_MS = 20_000

TARGETS = Targets(SERVICES, TRADERS, (*NODES_OF["alpha"], *BRIDGES), LINK_NAMES)  # type: ignore[index]


@pytest.mark.processes
async def test_a_slice(tmp_path: Path) -> None:
    # What is forked has the clock of the server that it was forked from.
    kinds = tuple(kind for kind in ALL_KINDS if kind is not Kind.CLOCK)
    plan = Plan(seed=SEED, for_ms=SLICE_MS, kinds=kinds)
    async with fork_server() as server:
        outcome = await run_chaos(tmp_path / "network", plan, lambda _: None, spawn=server.spawn)
    assert outcome.ok, f"{outcome.broken}\n{replay_of(plan)}\neverything is in {tmp_path}"
    counts = outcome.counts
    assert sum(counts.killed.values()) >= 5
    assert counts.swaps["COMMITTED"]
    assert counts.bundles
    history = list(read_journal(tmp_path / "network" / HISTORY_FILE))
    assert sum(line["what"] == "acknowledged" for line in history) == counts.bundles


@pytest.mark.processes
async def test_faults_that_are_aimed_and_a_run_that_ends_after_some_swaps(tmp_path: Path) -> None:
    plan = Plan(
        seed=3,
        for_ms=120_000,
        kinds=(Kind.KILL,),
        swaps=6,
        at=SwapPhase.LOCKED,
        victims=("alice", "beta-0"),
        at_once=1,
    )
    told: list[Mapping[str, Any]] = []
    async with fork_server() as server:
        outcome = await run_chaos(tmp_path / "network", plan, told.append, spawn=server.spawn)
    assert outcome.ok, f"{outcome.broken}\n{replay_of(plan)}\neverything is in {tmp_path}"
    assert outcome.seconds < plan.for_ms / 1_000
    # Whoever is killed may leave another without a quote, and that swap unproposed.
    assert outcome.counts.deals >= 6
    assert outcome.counts.proposed >= 1
    killed = outcome.counts.killed
    assert killed["alice"] == killed["beta-0"] == outcome.counts.faults["kill"] >= 1
    assert set(killed) == {"alice", "beta-0"}
    assert told[-1]["what"] == "verdict"
    assert {line["who"] for line in told if line["what"] == "kill begins"} == {"alice, beta-0"}


def test_the_same_seed_is_the_same_schedule() -> None:
    def first(seed: int) -> list[object]:
        return list(islice(schedule(seed, TARGETS, gap_ms=500), 200))

    assert first(1) == first(1) != first(2)


def test_a_schedule_has_every_kind_and_robs_nobody_of_what_cannot_be_made_again() -> None:
    faults = list(islice(schedule(3, TARGETS, gap_ms=500), 2_000))
    assert {fault.kind for fault in faults} == set(ALL_KINDS)
    for fault in faults:
        if fault.kind is Kind.DELETE:
            assert not {SEQUENCER, SETTLEMENT} & set(fault.victims)
        if fault.kind is Kind.STALE:
            assert SETTLEMENT not in fault.victims
            # Only the log knows that the sequencer's folder is old: nobody disturbs it meanwhile.
            assert SEQUENCER not in fault.victims or SETTLEMENT in fault.claims


def test_without_links_nothing_is_cut() -> None:
    targets = dataclasses.replace(TARGETS, links=())
    kinds = {fault.kind for fault in islice(schedule(3, targets, gap_ms=500), 500)}
    assert not kinds & set(NETWORK_KINDS)


def test_deals_follow_from_the_seed_and_are_of_every_conduct() -> None:
    def deals(seed: int) -> list[object]:
        return [deal_of(seed, "alice", n, names=TRADERS, rollups=tuple(ASSET_OF)) for n in range(300)]

    assert deals(1) == deals(1) != deals(2)
    made = [deal_of(1, "alice", n, names=TRADERS, rollups=tuple(ASSET_OF)) for n in range(300)]
    assert {deal.conduct for deal in made} == set(Conduct)
    assert {len(deal.rollups) for deal in made} == {2, 3}
    assert all(len(set(deal.rollups)) == len(deal.rollups) and deal.parties[0] == "alice" for deal in made)
