"""Asking every node of every rollup what it has come to, block after block, and comparing.

Owns one node's part of an audit. A node that is away is asked again for ever and told of, no violation; one
that says something else than the order makes is one, and is asked for the keys of its state that differ.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from deploy.audit.invariants import Difference, Invariant, Violated
from deploy.audit.plain.rollup import Rollup, balance_key, locks_key
from deploy.audit.statements import told_of
from deploy.audit.watching import PAUSE_S, Watch, is_own_finding, violated_by
from lockstep.errors import LockstepError, Pruned
from lockstep.header import header_hash
from rollups.client import ProvenCommitment, ProvenState, RollupStatus

AT_ONCE: Final = 16
"""Blocks that a node is asked about at a time."""

KEYS_ONCE: Final = 256
"""Keys of its state that a node is asked for at a time."""

KEYS_MAX: Final = 4_096
"""Keys that a node is asked for in all, to find those that differ."""

DIFFERENCES_MAX: Final = 8
"""Keys that a report names."""

DIFFERENCES_S: Final = 20
"""How long that may take."""


class Node(Protocol):
    """What of a node's client is needed here."""

    async def proven_commitment(self, height: int = 0) -> ProvenCommitment:
        """Return what it has come to after a block."""

    async def state(self, keys: Sequence[bytes], *, min_height: int = 0) -> ProvenState:
        """Return values of its state."""

    async def status(self) -> RollupStatus:
        """Return where it stands."""


class NodeWatch:
    """Compares one node with the order."""

    def __init__(self, watch: Watch, client: Node, rollup: str, address: str) -> None:
        self._watch = watch
        self._client = client
        self.rollup = rollup
        """Its rollup."""
        self.source = f"the node of {rollup} at {address}"
        """What reports call it."""
        self.compared_height = 0
        """The last block up to which everything that it says was compared."""
        self.skipped_height = 0
        """The last block of which it has no commitment any more."""
        self.away = ""
        """Why it did not answer last; empty if it did."""

    async def run(self) -> None:
        """Compare until the last block to look at was compared. Raises `Violated`."""
        watch = self._watch
        while watch.until_height is None or self.compared_height < watch.until_height:
            await watch.until(lambda: watch.audit.height > self.compared_height)
            last = min(watch.audit.height, self.compared_height + AT_ONCE)
            try:
                await self._compare(range(self.compared_height + 1, last + 1))
            except LockstepError as error:
                if is_own_finding(error):
                    raise violated_by(Invariant.COMMITMENTS, error, self.source, height=last) from error
                self.away = error.message
                await watch.advanced()
                await asyncio.sleep(PAUSE_S)
            else:
                self.away = ""
                await watch.advanced()

    async def _compare(self, heights: Sequence[int]) -> None:
        asked = [asyncio.create_task(self._client.proven_commitment(height)) for height in heights]
        try:
            for height, task in zip(heights, asked, strict=True):
                proven = await task
                told = told_of(proven.commitment, header_hash(proven.header.encoded))
                try:
                    self._watch.audit.told(self.source, told)
                except Violated as violated:
                    self._watch.found = violated
                    raise await self._explained(violated) from None
                self.compared_height = height
        except Pruned:
            status = await self._client.status()
            self.skipped_height = self.compared_height = status.first_available_height - 1
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    # --- what differs -------------------------------------------------------------------------------------

    async def _explained(self, violated: Violated) -> Violated:
        """Return a violation with the keys of the state that differ, if it is about the state."""
        if violated.violation.place != "state_root":
            return violated
        watch = self._watch
        try:
            async with asyncio.timeout(DIFFERENCES_S), watch.asking:
                return violated.with_differences(*await self._differences())
        except TimeoutError:
            return violated.with_differences((), "the node could not be asked in time which keys differ")
        except LockstepError as error:
            return violated.with_differences(
                (), f"the node cannot be asked which keys differ: {error.message}"
            )
        finally:
            await watch.halt(None)

    async def _differences(self) -> tuple[tuple[Difference, ...], str]:
        """Ask the node for its state, key by key, and compare it as of the same block."""
        watch, asked = self._watch, 0
        rollup = watch.audit.chain.rollups[self.rollup]
        keys = list(dict.fromkeys(_keys_to_ask(rollup)))[:KEYS_MAX]
        for start in range(0, len(keys), KEYS_ONCE):
            batch = keys[start : start + KEYS_ONCE]
            await watch.halt(watch.audit.height)
            state = await self._client.state(batch, min_height=watch.audit.height)
            height = state.commitment.height
            # The order goes on to that very block, and no further: its state is what the answer is about.
            await watch.halt(height)
            await watch.until(lambda height=height: watch.audit.height >= height)  # type: ignore[misc]
            asked += len(batch)
            found = [
                Difference(key, rollup.state.get(key), state.values[key])
                for key in batch
                if state.values[key] != rollup.state.get(key)
            ]
            if found:
                return tuple(found[:DIFFERENCES_MAX]), f"the keys are those after block {height}"
        return (), f"none of {asked} keys that the order knows of differs"


def _keys_to_ask(rollup: Rollup) -> Iterator[bytes]:
    """Yield the keys in which a state most likely differs: those it has, and those it could have."""
    state = list(rollup.state)
    yield from rollup.changes
    yield from sorted(key for key in state if key[0] in (2, 4, 5))
    yield from sorted(key for key in state if key[0] in (1, 3))
    accounts = sorted({key[-32:] for key in state if key[0] in (1, 3)})
    for account in accounts:
        yield from (balance_key(asset, account) for asset in rollup.assets)
        yield locks_key(account)
