"""Whether a disturbed network kept its promises: meanwhile, by the auditor, and at the end.

Owns what is looked at and when. The auditor (`deploy.audit`) follows the services directly, not through links
that are cut, and is given everything that was acknowledged to traders. Reads only.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from bridge.client import BridgeClient, SwapPhase, Wallet
from deploy.audit.checkers import Audit
from deploy.audit.following import Follower, Target, following
from deploy.audit.invariants import Violated
from deploy.audit.report import Summary, summary_of, write_report
from deploy.chaos.faults import SEQUENCER
from deploy.chaos.history import History, Tail
from deploy.chaos.injector import Broken
from deploy.chaos.network import BRIDGES, TRADERS, ChaosNetwork
from deploy.devnet.clients import until
from deploy.devnet.launcher import Devnet
from deploy.devnet.network import NODES_OF
from deploy.devnet.patience import PATIENCE, patiently
from lockstep.order import Placement
from lockstep.types import SwapId
from sequencer.client import SequencerClient

TAIL_S: Final = 0.2
"""How often the traders' journals are read."""

GRACE_MS: Final = 120_000
"""How long the auditor waits at the end for nodes that are behind: a machine that is busy is no finding."""

FOLLOW_MS_MAX: Final = 60_000
"""How long a coordinator may take to follow the whole order, as one does whose database was deleted."""


class Judge:
    """Looks at one network."""

    def __init__(self, made: ChaosNetwork, devnet: Devnet, follower: Follower, history: History) -> None:
        self._made = made
        self._devnet = devnet
        self._follower = follower
        self._history = history
        self._tails = [Tail(made.journal(name)) for name in TRADERS]
        self._started_s = time.monotonic()

    @property
    def summary(self) -> Summary:
        """What the auditor has looked at."""
        return summary_of(self._follower, time.monotonic() - self._started_s)

    async def follow(self) -> None:
        """Audit until cancelled, or until `conclude` ends it. Raises Broken."""
        try:
            await self._follower.run()
        except Violated as violated:
            raise self._broken_by(violated) from None

    async def read_journals(self) -> None:
        """Take what traders say that they did, for ever."""
        while True:
            self.read_journals_now()
            await asyncio.sleep(TAIL_S)

    def read_journals_now(self) -> None:
        """Take what traders said that they did until now."""
        for tail in self._tails:
            for line in tail.added():
                placement = self._history.add(line)
                if placement is not None:
                    self._take(placement)

    def _take(self, placement: Placement) -> None:
        try:
            self._follower.audit.acknowledged(placement)
        except Violated as violated:
            raise self._broken_by(violated) from None

    def _broken_by(self, violated: Violated) -> Broken:
        violation = violated.violation
        files = write_report(self._made.network.folder, violation, self.summary)
        lines = "\n".join(violation.lines())
        return Broken(f"the auditor found what does not hold:\n{lines}\nwritten to {files[0]}")

    async def conclude(self, auditing: "asyncio.Task[None]") -> Mapping[str, Any]:
        """Check everything once more, now that all is over; return what was found. Raises Broken."""
        self.read_journals_now()
        watch, network = self._follower.watch, self._made.network
        async with SequencerClient(network.address(SEQUENCER), network.genesis) as sequencer:
            height = (await until(sequencer.status, "the sequencer")).height
        # One block more than anybody was told of: it comes by itself.
        watch.until_height = max(height, self._follower.audit.height) + 1
        await watch.advanced()
        await auditing
        summary = self.summary
        if not summary.is_complete:
            raise Broken("not everybody came back:\n" + "\n".join(summary.lines()))
        await self._verify_wallets()
        found = summary.as_json()
        if not summary.height:
            raise Broken("nothing was ordered")
        return found

    async def _verify_wallets(self) -> None:
        """Every party of a swap knows the same end, and it is the one that both coordinators tell.

        ABORTED and LAPSED are one end, nothing moved: whose leg was never locked may look when the register
        has dropped the swap, and is then told of none.
        """
        outcomes: dict[SwapId, SwapPhase] = {}
        for name in TRADERS:
            for swap in Wallet(self._made.wallet(name)).swaps():
                if swap.outcome is None:
                    raise Broken(f"swap {swap.swap_id.hex()} has no end in the wallet of {name}")
                known = outcomes.setdefault(swap.swap_id, swap.outcome)
                if _is_moved(known) is not _is_moved(swap.outcome):
                    raise Broken(
                        f"swap {swap.swap_id.hex()} is {known.name} in one wallet and "
                        f"{swap.outcome.name} in that of {name}"
                    )
        network = self._made.network
        for bridge in BRIDGES:
            async with BridgeClient(network.address(bridge), network.genesis) as client:
                await self._wait_until_followed(bridge, client)
                await self._compare(bridge, client, outcomes)

    async def _wait_until_followed(self, bridge: str, client: BridgeClient) -> None:
        """Let a coordinator come to the last block that was looked at: it may have begun anew just now."""

        async def is_there() -> bool | None:
            return (await client.status()).height >= self._follower.audit.height or None

        following = until(is_there, f"{bridge} to follow", timeout_ms=PATIENCE * FOLLOW_MS_MAX)
        try:
            await patiently(following, FOLLOW_MS_MAX, (self._devnet.pid(bridge),))
        except TimeoutError:
            raise Broken(str(self._devnet.failure(bridge, "does not follow the order to its end"))) from None

    async def _compare(self, bridge: str, client: BridgeClient, outcomes: Mapping[SwapId, SwapPhase]) -> None:
        compared, token = 0, b""
        while True:
            page = await client.list(page_token=token)
            for view in page.swaps:
                expected = outcomes.get(view.swap_id)
                if expected is None:
                    continue
                compared += 1
                if not view.is_final or _is_moved(view.phase) is not _is_moved(expected):
                    raise Broken(
                        f"swap {view.swap_id.hex()} is {expected.name} for its traders and "
                        f"{view.phase.name} for {bridge}"
                    )
            token = page.next_page_token
            if not token:
                break
        self._history.note(bridge, "agrees with the wallets", swaps=compared)


def _is_moved(phase: SwapPhase) -> bool:
    return phase is SwapPhase.COMMITTED


@asynccontextmanager
async def judging(made: ChaosNetwork, devnet: Devnet, history: History) -> AsyncIterator[Judge]:
    """Keep a judge of a network while the `async with` block lasts."""
    network = made.network
    target = Target(
        network.genesis,
        network.address("sequencer"),
        network.address("settlement"),
        {rollup: [network.address(node) for node in nodes] for rollup, nodes in NODES_OF.items()},
    )
    audit = Audit(network.genesis, target.nodes, keeps_placements=True)
    async with following(target, audit, grace_ms=GRACE_MS) as follower:
        yield Judge(made, devnet, follower, history)
