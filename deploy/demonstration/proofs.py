"""The demo's swap receipts: fetched while the network runs, and verified when no process runs any more.

Owns the files and what is looked for in them. What makes a receipt true is `lockstep.swap_receipt_verify`'s
to say, from the file and the genesis file alone.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from bridge.client.receipts import get_swap_receipt, open_sources
from deploy.demonstration.narrator import Narrator
from deploy.demonstration.report import CheckResult, ReceiptResult, Report, SwapResult
from deploy.devnet.audit import PromiseBroken
from deploy.devnet.network import Network
from deploy.network_file import NETWORK_FILE, load_network_file
from deploy.node.chain_files import load_genesis
from lockstep.errors import ReceiptInvalid
from lockstep.genesis import Genesis
from lockstep.swap_receipt_legs import LegOutcome
from lockstep.swap_receipt_verify import VerifiedSwap, verify_swap_receipt
from lockstep.types import SwapId

RECEIPTS: Final = "receipts"
"""Their folder, in the demo's."""

CHECK: Final = "every swap's receipt verifies with nothing but the genesis file"


async def fetch_receipts(network: Network, report: Report) -> None:
    """Get the receipt of each swap, from the services that the network file names, and save it."""
    services = load_network_file(network.folder / NETWORK_FILE)
    (network.folder / RECEIPTS).mkdir()
    async with open_sources(
        network.genesis,
        sequencer=services.sequencer,
        settlement=services.settlement,
        rollups=services.rollups,
        bridges=services.bridges,
    ) as sources:
        for number, swap in sorted(report.swaps.items()):
            encoded, _ = await get_swap_receipt(sources, SwapId(swap.swap_id))
            file = f"{RECEIPTS}/swap-{number}.receipt"
            (network.folder / file).write_bytes(encoded)
            report.swaps[number] = replace(swap, receipt=ReceiptResult(file, len(encoded)))


def verify_receipts(folder: Path, report: Report, narrator: Narrator) -> None:
    """Verify every receipt by files of `folder` alone, and note in the report what they show."""
    _, genesis = load_genesis(folder / "genesis.json")
    for number, swap in sorted(report.swaps.items()):
        if swap.receipt is None:
            continue
        ok, detail = _verified(swap, (folder / swap.receipt.file).read_bytes(), genesis)
        report.swaps[number] = replace(swap, receipt=replace(swap.receipt, ok=ok, detail=detail))
        narrator.line(detail, swap=number)
    receipts = [swap.receipt for swap in report.swaps.values()]
    wrong = [receipt.detail for receipt in receipts if receipt is not None and not receipt.ok]
    detail = f"all {len(receipts)} did after every process was stopped, and none with one byte changed"
    ok = not wrong and None not in receipts
    report.checks.append(
        CheckResult(CHECK, ok=ok, detail=detail if ok else "; ".join(wrong) or "some are missing")
    )


def _verified(swap: SwapResult, encoded: bytes, genesis: Genesis) -> tuple[bool, str]:
    """Answer whether a receipt shows that a swap ended as it was seen to, and how or why not."""
    try:
        shown = verify_swap_receipt(encoded, genesis)
        _compare(shown, swap)
        _verify_tamper_proof(encoded, genesis)
    except (ReceiptInvalid, PromiseBroken) as failure:
        return False, str(failure)
    reason = "" if swap.reason == "NONE" else f" ({swap.reason})"
    return True, (
        f"{shown.outcome.name}{reason} in block {shown.decided.height}, anchored with block "
        f"{shown.anchored_height}: {len(encoded):,} bytes show it"
    )


def _compare(shown: VerifiedSwap, swap: SwapResult) -> None:
    found = (shown.swap_id, shown.outcome.name, shown.reason.name, shown.decided.height)
    if found != (swap.swap_id, swap.outcome, swap.reason, swap.decided_height):
        raise PromiseBroken(f"the receipt shows another end of the swap: {found}")
    paid = {leg.outcome is LegOutcome.PAID for leg in shown.legs}
    if paid != {swap.outcome == "COMMITTED"}:
        raise PromiseBroken(
            f"the receipt shows other ends of the legs: {[leg.outcome for leg in shown.legs]}"
        )


def _verify_tamper_proof(encoded: bytes, genesis: Genesis) -> None:
    """Insist that a receipt with its middle byte changed is refused."""
    middle = len(encoded) // 2
    changed = encoded[:middle] + bytes([encoded[middle] ^ 1]) + encoded[middle + 1 :]
    try:
        verify_swap_receipt(changed, genesis)
    except ReceiptInvalid:
        return
    raise PromiseBroken(f"the receipt verifies although its byte {middle} was changed")
