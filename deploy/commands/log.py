"""`lockstep log`: the settlement log, and whether it keeps its promises.

Owns what can be typed, how it is shown, and the newest checkpoint that was ever seen, which is kept in the
wallet: a log that does not extend it went back on its word.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import click

from bridge.settlement.client import Auditor, SettlementClient
from deploy.commands.connecting import STALL_MS_MAX, connected
from deploy.commands.frame import (
    Command,
    CommandFailed,
    Options,
    Say,
    network_options,
    print_json,
    print_table,
    progress,
    run,
)
from deploy.commands.parameters import account_names
from deploy.commands.records import record_file
from deploy.commands.words import Words
from deploy.lazy_group import LazyGroup
from deploy.node.datadir import write_atomically
from deploy.node.failures import DataRefused
from lockstep.checkpoint import Checkpoint, parse_checkpoint, parse_note
from lockstep.errors import Malformed, UnavailablePeer
from lockstep.settlement_entries import Evidence, decode_settlement_entry


@click.group(cls=LazyGroup)
def log() -> None:
    """Look at the settlement log, and verify all of it."""


@log.command(cls=Command)
@network_options
def verify(options: Options) -> None:
    """Verify every entry from genesis on, and that the log's newest checkpoint is of exactly these.

    That checkpoint is remembered: a log that ever tells another story is refused, with exit code 4.
    """

    async def work() -> None:
        with progress("reading the settlement log") as say:
            async with _remembered(options) as (client, before):
                checkpoint = await client.checkpoint()
                auditor, evidence = await _audit(options, client, checkpoint, say)
        told = {
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "extends_size": before.size if before is not None else None,
            "anchored_height": auditor.log.tip.height,
            "commitments": {
                rollup: {"height": each.height, "index": each.index}
                for rollup, each in sorted(auditor.log.anchored.items())
            },
            "evidence": evidence,
        }
        _show_verified(options, told)

    run(options, work)


@log.command(cls=Command)
@network_options
@click.argument("index", type=click.IntRange(min=0))
def show(options: Options, index: int) -> None:
    """Show the entry at INDEX in words, proven to be in the log."""

    async def work() -> None:
        async with _remembered(options) as (client, _):
            size = (await client.checkpoint()).size
            if index >= size:
                raise CommandFailed(
                    f"there is no entry {index} yet; entries are numbered 0 to {size - 1}", code="NOT_YET"
                )
            entry = await client.entry(index)
        words = Words(options.genesis, account_names(options)).logged(entry)
        if options.is_json:
            kind = type(decode_settlement_entry(entry)).__name__
            print_json({"ok": True, "index": index, "kind": kind, "words": words, "entry": entry.hex()})
        else:
            click.echo(f"{index}: {words}")

    run(options, work)


@log.command(cls=Command)
@network_options
def status(options: Options) -> None:
    """Show where the log stands. Its size is proven; what is anchored is its word, which `verify` judges."""

    async def work() -> None:
        async with _remembered(options) as (client, _):
            found = await client.status()
            checkpoint = client.seen
        if options.is_json:
            print_json(
                {
                    "ok": True,
                    "origin": checkpoint.origin,
                    "size": found.size,
                    "root": checkpoint.root.hex(),
                    "anchored_height": found.anchored_height,
                    "commitments": {
                        rollup: {"height": each.height, "index": each.index}
                        for rollup, each in sorted(found.rollups.items())
                    },
                    "evidence_count": found.evidence_count,
                }
            )
            return
        click.echo(f"{checkpoint.origin}: {found.size} entries, root {checkpoint.root.hex()}")
        click.echo(
            f"headers are anchored up to block {found.anchored_height}, evidence: {found.evidence_count}"
        )
        rows = [(rollup, str(each.height), str(each.index)) for rollup, each in sorted(found.rollups.items())]
        print_table(("rollup", "anchored after block", "by entry"), rows)

    run(options, work)


async def _audit(
    options: Options, client: SettlementClient, checkpoint: Checkpoint, say: Say
) -> tuple[Auditor, list[int]]:
    """Judge every entry up to a checkpoint; return what they say, and the indexes of evidence."""
    auditor = Auditor(options.genesis)
    evidence = []
    async with aclosing(client.entries()) as entries:
        while auditor.size < checkpoint.size:
            try:
                async with asyncio.timeout(STALL_MS_MAX / 1_000):
                    index, entry = await anext(entries)
            except TimeoutError:
                raise UnavailablePeer(peer=f"the settlement log at {options.network.settlement}") from None
            auditor.add(entry)
            if isinstance(decode_settlement_entry(entry), Evidence):
                evidence.append(index)
            say(f"verifying entry {index + 1} of {checkpoint.size}")
    auditor.verify(checkpoint)
    return auditor, evidence


def _show_verified(options: Options, told: dict[str, Any]) -> None:
    if options.is_json:
        print_json({"ok": True, **told})
        return
    click.echo(f"all {told['size']} entries hold, from genesis on; root {told['root']}")
    if told["extends_size"] is None:
        click.echo("this is the first checkpoint that was seen here; it is remembered")
    else:
        click.echo(f"it extends the log of {told['extends_size']} entries that was seen before")
    click.echo(f"headers are anchored up to block {told['anchored_height']}")
    for rollup, each in told["commitments"].items():
        click.echo(f"{rollup} is anchored after block {each['height']}, by entry {each['index']}")
    if told["evidence"]:
        click.echo(
            f"evidence that somebody signed two stories: entries {', '.join(map(str, told['evidence']))}"
        )


# --- what was seen before ---------------------------------------------------------------------------------


@asynccontextmanager
async def _remembered(options: Options) -> AsyncIterator[tuple[SettlementClient, Checkpoint | None]]:
    """Give a client that holds the log to what was seen here before, with that; remember what it saw.

    Raises Contradiction, from the client, for a log that does not extend it.
    """
    name = f"settlement-{options.genesis.chain_id.hex()[:16]}.checkpoint"
    file = record_file(options.network.wallet, name)
    before = _load(file)
    async with connected(options) as network:
        client = await network.settlement(seen=before)
        yield client, before
        checkpoint, note = await client.signed_checkpoint()
        if before is None or checkpoint.size > before.size:
            write_atomically(file, note)


def _load(file: Path) -> Checkpoint | None:
    try:
        return parse_checkpoint(parse_note(file.read_bytes()).body)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataRefused(f"{file} cannot be read: {error.strerror}; mend that") from error
    except Malformed as error:
        raise DataRefused(
            f"{file} is damaged: {error.message}; restore it, or move it away and verify the whole log anew"
        ) from error
