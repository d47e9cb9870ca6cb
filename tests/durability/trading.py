"""A trader who writes his wallet: `python -m tests.durability.trading RUN_FOLDER`, started by `recording`.

Each swap is recorded and goes on to its end as a trader's program would write it; after each call that
returned, a mark says what the file holds from then on.
"""

import json
import sys
from pathlib import Path

from bridge.client import RecordedSwap, RevealPolicy, Role, SwapPhase, Trader, Wallet
from bridge.client.recorded import encode_recorded, ended, revealing, with_lock
from lockstep.terms import decode_terms
from tests.durability.recording import WALLET, Run
from tests.tools.shim import mark
from tests.unit.bridge.chain import ANN, BOB, make_terms

SWAPS = 12


def main() -> None:
    """Trade."""
    run = Run(Path(sys.argv[1]))
    wallet = Wallet(run.root / WALLET)
    for number in range(SWAPS):
        for trader, role in ((ANN, Role.PROPOSER), (BOB, Role.COUNTERPARTY)):
            _trade(run, wallet, trader, role, number)


def _trade(run: Run, wallet: Wallet, trader: Trader, role: Role, number: int) -> None:
    terms_bytes = make_terms(number)
    swap = RecordedSwap(
        trader.account, role, terms_bytes, decode_terms(terms_bytes), RevealPolicy.BY_TRADER, b"key" * 5
    )
    _tell(run, wallet.add(swap))
    leg = swap.own_legs[0]
    changes = [with_lock(leg, trader.sign_lock(terms_bytes, leg))]
    changes += [revealing] if role is Role.PROPOSER else []
    for change in (*changes, ended(SwapPhase.COMMITTED)):
        _tell(run, wallet.change(swap, change))


def _tell(run: Run, swap: RecordedSwap) -> None:
    mark(run.record(WALLET), json.dumps({"recorded": encode_recorded(swap).hex()}).encode())


if __name__ == "__main__":
    main()
