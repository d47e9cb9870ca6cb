"""`lockstep block`: the order, block by block.

Owns what can be typed and how it is shown. A block that is shown is signed by the sequencer, and the entries
of every namespace that is read are proven to be all that it holds.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import click

from deploy.commands.connecting import STALL_MS_MAX, Connections, connected
from deploy.commands.frame import (
    Command,
    CommandFailed,
    Options,
    network_options,
    print_json,
    print_json_line,
    progress,
    run,
)
from deploy.commands.parameters import account_names
from deploy.commands.words import Words
from deploy.lazy_group import LazyGroup
from lockstep.block import VerifiedBlock
from lockstep.errors import UnavailablePeer
from lockstep.header import Tip, genesis_tip, header_hash, tip_of
from lockstep.types import LOG_NAMESPACE, REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height, Namespace
from sequencer.client import FollowedBlock, SequencerClient

_LATEST: Final = "latest"
_NAMESPACES_MAX: Final = 64
"""How many namespaces can be read at once."""


class _Height(click.ParamType[Height | None]):
    """A height, or `latest`, which is None."""

    name = "height"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Height | None:
        """Return the height."""
        if value in (None, _LATEST):
            return None
        text = str(value)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**63:
            self.fail(f"{text!r} is no height; write a number from 1 on, or {_LATEST}", param, ctx)
        return Height(int(text))


@click.group(cls=LazyGroup)
def block() -> None:
    """Look at the order, block by block."""


@block.command(cls=Command)
@network_options
@click.argument("height", type=_Height(), default=_LATEST, metavar=f"[HEIGHT|{_LATEST}]")
def show(options: Options, height: Height | None) -> None:
    """Show one block: its signed header, what it holds for whom, and every entry in words."""

    async def work() -> None:
        words = Words(options.genesis, account_names(options))
        async with connected(options) as network:
            with progress("asking the sequencer"):
                found = await _block_at(network, height)
        if options.is_json:
            print_json({"ok": True, **_block_json(found, words)})
            return
        header = found.header
        for name, value in (
            ("block", header.height),
            ("log time", f"{header.time_ms} ms"),
            ("hash", found.hash.hex()),
            ("parent", header.parent_hash.hex()),
            ("data root", header.data_root.hex()),
            ("bundles", header.bundle_count),
        ):
            click.echo(f"{name:<10} {value}")
        _print_entries(found, words)

    run(options, work)


@block.command(cls=Command)
@network_options
@click.option("--from", "start", type=_Height(), help="The first block to show; without it the next one.")
@click.option("--busy", is_flag=True, help="Leave out blocks that hold nothing.")
def watch(options: Options, start: Height | None, busy: bool) -> None:  # noqa: FBT001 - click passes options
    """Show every block as it comes, until Ctrl-C. With --json, one document on each line."""

    async def work() -> None:
        words = Words(options.genesis, account_names(options))
        async with connected(options) as network:
            client = await network.sequencer()
            tip = await _newest_tip(network, client) if start is None else await _tip_before(network, start)
            async with _following(network, client, tip) as blocks:
                async for followed in blocks:
                    if followed.block.header.transaction_count or not busy:
                        _show_followed(followed.block, words, is_json=options.is_json)

    run(options, work, is_reading=True)


async def _block_at(network: Connections, height: Height | None) -> VerifiedBlock:
    """Return a block, verified. Raises CommandFailed if there is none of that height, Pruned."""
    client = await network.sequencer()
    newest = (await client.status()).height
    wanted = newest if height is None else height
    if not 1 <= wanted <= newest:
        raise CommandFailed(f"there is no block {wanted} yet; the newest is {newest}", code="NOT_YET")
    async with _following(network, client, await _tip_before(network, wanted)) as blocks:
        try:
            async with asyncio.timeout(STALL_MS_MAX / 1_000):
                return (await anext(blocks)).block
        except TimeoutError:
            raise UnavailablePeer(peer=f"sequencer {network.network.sequencer}") from None


async def _tip_before(network: Connections, height: Height) -> Tip:
    """Return the tip that the block at a height has to continue."""
    genesis = network.genesis
    if height == 1:
        return genesis_tip(genesis.chain_id, genesis.genesis_time_ms)
    client = await network.sequencer()
    proven = await client.header(Height(height - 1))
    return tip_of(proven.header, header_hash(proven.encoded))


async def _newest_tip(network: Connections, client: SequencerClient) -> Tip:
    return await _tip_before(network, Height((await client.status()).height + 1))


@asynccontextmanager
async def _following(
    network: Connections, client: SequencerClient, tip: Tip
) -> AsyncIterator[AsyncIterator[FollowedBlock]]:
    """Give the blocks after a tip, with the entries of the system's namespaces and of genesis' rollups."""
    rollups = [Namespace(each.id) for each in network.genesis.rollups]
    namespaces = (SWAP_NAMESPACE, REGISTRY_NAMESPACE, LOG_NAMESPACE, *rollups)[:_NAMESPACES_MAX]
    blocks = client.follow(tip=tip, namespaces=namespaces, sequencer_key=network.sequencer_key)
    async with aclosing(blocks):
        yield blocks


def _show_followed(found: VerifiedBlock, words: Words, *, is_json: bool) -> None:
    if is_json:
        print_json_line(_block_json(found, words))
        return
    header = found.header
    click.echo(f"block {header.height} at {header.time_ms} ms, {found.hash.hex()}")
    _print_entries(found, words)


def _print_entries(found: VerifiedBlock, words: Words) -> None:
    for leaf in found.leaves:
        entries = found.entries.get(leaf.namespace)
        more = "" if entries is not None else ", not read"
        click.echo(f"  {leaf.namespace}: {leaf.count} {'entry' if leaf.count == 1 else 'entries'}{more}")
        for entry in entries or ():
            click.echo(f"    {entry.index}: {words.entry(leaf.namespace, entry.payload)}")


def _block_json(found: VerifiedBlock, words: Words) -> dict[str, Any]:
    header = found.header
    return {
        "height": header.height,
        "time_ms": header.time_ms,
        "hash": found.hash.hex(),
        "parent_hash": header.parent_hash.hex(),
        "data_root": header.data_root.hex(),
        "bundles": header.bundle_count,
        "transactions": header.transaction_count,
        "namespaces": {leaf.namespace: leaf.count for leaf in found.leaves},
        "entries": [
            {
                "namespace": namespace,
                "index": entry.index,
                "bundle_id": entry.bundle_id.hex(),
                "payload": entry.payload.hex(),
                "words": words.entry(namespace, entry.payload),
            }
            for namespace, entries in found.entries.items()
            for entry in entries
        ],
    }
