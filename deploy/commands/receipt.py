"""`lockstep receipt`: the proof of a swap, in a file that needs no network.

Owns what can be typed, where the file goes, and how it is shown. What is in it, and whether it holds, is
`lockstep.swap_receipt_verify`'s to say.
"""

from pathlib import Path
from typing import Any, Final

import click

from bridge.client import Wallet
from bridge.client.receipts import TIMEOUT_MS, get_swap_receipt, open_sources
from deploy.commands.frame import (
    EXIT_TYPED_WRONG,
    EXIT_UNVERIFIED,
    Command,
    CommandFailed,
    Options,
    network_options,
    print_json,
    print_table,
    progress,
    run,
)
from deploy.commands.parameters import DURATION, find_asset, in_units
from deploy.commands.swap_desk import at_counter, find_view
from deploy.lazy_group import LazyGroup
from deploy.node.chain_files import load_genesis
from deploy.node.client import ClientSettings
from deploy.node.datadir import write_atomically
from deploy.node.failures import SettingsInvalid
from lockstep.errors import ReceiptInvalid
from lockstep.genesis import Genesis
from lockstep.receipts import PremiumOutcome
from lockstep.register import BLOCK_OPENING, OutcomeReason, Place
from lockstep.swap_receipt_legs import VerifiedLeg
from lockstep.swap_receipt_verify import VerifiedSwap, verify_swap_receipt
from lockstep.types import SwapId

_SHORT: Final = 16
"""Digits of a swap's id by which a file is called."""

_FILE_BYTES_MAX: Final = 256 * 1024 * 1024
"""What is larger is no receipt."""


@click.group(cls=LazyGroup)
def receipt() -> None:
    """The proof of a swap, in a file that needs no network."""


@receipt.command(cls=Command)
@network_options
@click.argument("swap_id", metavar="SWAP")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where it goes; without it to the start of the swap's id, with .receipt behind it.",
)
@click.option("--force", is_flag=True, help="Replace the file, whatever it is.")
@click.option(
    "--timeout",
    type=DURATION,
    default=TIMEOUT_MS,
    help="How long to wait for it; 2m by default.",
)
def get(
    options: Options,
    swap_id: str,
    output: Path | None,
    force: bool,  # noqa: FBT001 - click passes options by name
    timeout: int,
) -> None:
    """Get the receipt of a swap that has ended, and verify it.

    Waits for the swap's end, and until the settlement log has it. SWAP is its id, or the start of it.
    """

    async def work() -> None:
        found = await _find(options, swap_id)
        recorded = [each for each in Wallet(options.network.wallet).swaps() if each.swap_id == found]
        path = output or Path(f"{found.hex()[:_SHORT]}.receipt")
        if not force:
            _verify_replaceable(path, found, options.genesis)
        network = options.network
        async with open_sources(
            options.genesis,
            sequencer=network.sequencer,
            settlement=network.settlement,
            rollups=network.rollups,
            bridges=network.bridges,
            settings=ClientSettings(tls=network.tls),
        ) as sources:
            with progress("asking") as say:
                encoded, verified = await get_swap_receipt(
                    sources,
                    found,
                    terms_bytes=recorded[0].terms_bytes if recorded else None,
                    timeout_ms=timeout,
                    say=say,
                )
        write_atomically(path, encoded)
        if options.is_json:
            print_json({"ok": True, "file": str(path), "bytes": len(encoded), **_as_json(verified)})
            return
        _show(verified, options.genesis)
        click.echo(f"\n{path}, {len(encoded):,} bytes. Anybody who has the genesis file can verify it:")
        click.echo(f"  lockstep receipt verify {path} --genesis {network.genesis}")

    run(options, work)


@receipt.command(cls=Command)
@network_options
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option(
    "--genesis",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The chain's genesis file, which all of it rests on; without it the network's.",
)
def verify(options: Options, file: Path, genesis: Path | None) -> None:
    """Verify a receipt with the genesis file alone, and show what it proves.

    Asks nobody: no network is needed. Exits with 4 if the receipt does not hold.
    """

    async def work() -> None:
        chain = _chain(options, genesis)
        try:
            verified = verify_swap_receipt(_read(file), chain)
        except ReceiptInvalid as error:
            raise CommandFailed(
                f"{file} does not verify at step {error.step}: {error.reason}",
                advice="believe nothing in it, and get one yourself with `lockstep receipt get`",
                code=error.code,
                exit_code=EXIT_UNVERIFIED,
            ) from error
        if options.is_json:
            print_json({"ok": True, "file": str(file), **_as_json(verified)})
        else:
            _show(verified, chain)

    run(options, work)


async def _find(options: Options, text: str) -> SwapId:
    """Return the id that was typed, or of which the start was. Raises CommandFailed, LockstepError."""
    if len(text) == 64:
        try:
            return SwapId(bytes.fromhex(text))
        except ValueError:
            pass
    async with at_counter(options) as counter:
        return (await find_view(counter, text)).swap_id


def _chain(options: Options, genesis: Path | None) -> Genesis:
    """Return the chain that was named, else the network's. Raises CommandFailed, SettingsInvalid."""
    if genesis is not None:
        return load_genesis(genesis)[1]
    try:
        return options.genesis
    except SettingsInvalid as failure:
        raise CommandFailed(
            f"which chain is it of? {failure}",
            advice="name its genesis file with --genesis: no network is needed",
            code="SETTINGS",
            exit_code=EXIT_TYPED_WRONG,
        ) from failure


def _read(file: Path) -> bytes:
    """Return a file's bytes, as far as a receipt can go. Raises CommandFailed."""
    try:
        with file.open("rb") as opened:
            return opened.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise CommandFailed(
            f"{file} cannot be read: {error.strerror}", code="NO_FILE", exit_code=EXIT_TYPED_WRONG
        ) from error


def _verify_replaceable(path: Path, swap_id: SwapId, genesis: Genesis) -> None:
    """Insist that a file is not there, or is a receipt of this very swap. Raises CommandFailed."""
    if not path.exists():
        return
    try:
        if verify_swap_receipt(_read(path), genesis).swap_id == swap_id:
            return
        what = "is the receipt of another swap"
    except ReceiptInvalid:
        what = "is there, and is no receipt of this swap"
    raise CommandFailed(
        f"{path} {what}",
        advice="name another file with -o, or replace it with --force",
        code="FILE_EXISTS",
        exit_code=EXIT_TYPED_WRONG,
    )


# --- showing ----------------------------------------------------------------------------------------------


def _show(verified: VerifiedSwap, genesis: Genesis) -> None:
    reason = "" if verified.reason == OutcomeReason.NONE else f": {verified.reason.name}"
    legs = f" of leg {', '.join(map(str, verified.reason_legs))}" if verified.reason_legs else ""
    click.secho(f"swap {verified.swap_id.hex()}", bold=True)
    click.echo(f"{verified.outcome.name}{reason}{legs}\n")
    print_table(
        ("", "block", "place", "log time"),
        (
            ("opened", *_place(verified.opened), str(verified.opened_time_ms)),
            ("decided", *_place(verified.decided), str(verified.decided_time_ms)),
            ("anchored", str(verified.anchored_height), "", str(verified.anchored_time_ms)),
        ),
    )
    click.echo()
    print_table(
        ("leg", "rollup", "amount", "what became of it", "premium"),
        (
            (
                str(leg.leg),
                leg.rollup,
                f"{_units(leg, leg.amount, genesis)} {leg.asset}",
                leg.outcome.value,
                _premium(leg, genesis),
            )
            for leg in verified.legs
        ),
    )
    for head, sentences in (("This proves", verified.proves), ("This only attests", verified.attests)):
        click.echo()
        click.secho(head, bold=True)
        for sentence in sentences:
            click.echo(f"- {sentence}")


def _place(place: Place) -> tuple[str, str]:
    return str(place.height), "a deadline" if place.index == BLOCK_OPENING else str(place.index)


def _premium(leg: VerifiedLeg, genesis: Genesis) -> str:
    if not leg.premium:
        return ""
    outcome = "" if leg.premium_outcome == PremiumOutcome.NONE else f" {leg.premium_outcome.name.lower()}"
    return f"{_units(leg, leg.premium, genesis)}{outcome}"


def _units(leg: VerifiedLeg, base_units: int, genesis: Genesis) -> str:
    """Return an amount as people write it; in base units if the genesis file does not know the asset."""
    try:
        return in_units(base_units, find_asset(genesis, leg.rollup, leg.asset).decimals)
    except ValueError:
        return f"{base_units} base units of"


def _as_json(verified: VerifiedSwap) -> dict[str, Any]:
    return {
        "swap_id": verified.swap_id.hex(),
        "outcome": verified.outcome.name,
        "reason": verified.reason.name,
        "reason_legs": list(verified.reason_legs),
        "opened": _place_json(verified.opened, verified.opened_time_ms),
        "decided": _place_json(verified.decided, verified.decided_time_ms),
        "anchored": {"height": verified.anchored_height, "time_ms": verified.anchored_time_ms},
        "checkpoint": {
            "origin": verified.checkpoint.origin,
            "size": verified.checkpoint.size,
            "root": verified.checkpoint.root.hex(),
        },
        "preimage": None if verified.preimage is None else verified.preimage.hex(),
        "legs": [_leg_json(leg) for leg in verified.legs],
        "proves": list(verified.proves),
        "attests": list(verified.attests),
    }


def _place_json(place: Place, time_ms: int) -> dict[str, Any]:
    """Return a place; its index is null where a deadline decided."""
    index = None if place.index == BLOCK_OPENING else place.index
    return {"height": place.height, "index": index, "time_ms": time_ms}


def _leg_json(leg: VerifiedLeg) -> dict[str, Any]:
    return {
        "leg": leg.leg,
        "rollup": leg.rollup,
        "sender": leg.sender.hex(),
        "recipient": leg.recipient.hex(),
        "asset": leg.asset,
        "amount": str(leg.amount),
        "premium": str(leg.premium),
        "verdict": None if leg.verdict is None else leg.verdict.name,
        "outcome": leg.outcome.name,
        "premium_outcome": leg.premium_outcome.name,
    }
