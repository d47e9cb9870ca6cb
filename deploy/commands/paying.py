"""A payment that is made once, whatever happens to the command that makes it.

Owns what is kept until a payment's outcome is known: its signed bytes, in the wallet, before anything is
sent. The same payment, asked for again meanwhile, sends the same bytes, which are executed once. When the
outcome is known, asking again is another payment.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.client import Trader
from bridge.client.failover import Failover
from deploy.commands.connecting import Connections
from deploy.commands.frame import EXIT_UNKNOWN, REPEAT_ADVICE, CommandFailed, Say
from deploy.commands.records import record_file
from deploy.node.datadir import create_atomically
from deploy.node.failures import DataRefused
from lockstep.errors import Expired, Malformed, NeverOrdered, NotFound
from lockstep.order import Bundle, Transaction, bundle_id_of
from lockstep.receipts import TransactionReceipt
from lockstep.signing import SigningKey
from lockstep.transactions import (
    Faucet,
    RollupTransaction,
    Transfer,
    decode_transaction,
)
from lockstep.types import Namespace, RollupId
from sequencer.client import Ordered

FOLDER: Final = "payments"
"""Where in the wallet payments are kept whose outcome is not known."""

WINDOW_MS: Final = 60_000
"""Log time within which a payment is ordered, or never."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A signed transaction that moves money, on disk until its outcome is known."""

    transaction: RollupTransaction
    """What was signed."""
    payload: bytes
    """The bytes that travel."""
    file: Path
    """Where it is kept."""
    is_resumed: bool
    """Whether it was there already: a command before this one did not see its end."""

    @property
    def bundle(self) -> Bundle:
        """What is submitted; the same bytes make the same one."""
        namespace = Namespace(self.transaction.rollup)
        return Bundle((Transaction(namespace, self.payload),), self.transaction.valid_until_ms)

    def forget(self) -> None:
        """Its outcome is known: the same payment, asked for again, is another one."""
        self.file.unlink(missing_ok=True)


def keep_payment(
    wallet: Path, trader: Trader, rollup: RollupId, call: Transfer | Faucet, *, time_ms: int
) -> Payment:
    """Return a payment that is on disk: the same one whose outcome is not known, else a new one.

    `time_ms` is the newest log time. Raises Malformed for a call that cannot be signed, StorageFailed,
    DataRefused.
    """
    payload = trader.sign_call(rollup, call, valid_until_ms=time_ms + WINDOW_MS)
    file = record_file(wallet, FOLDER, f"{_intent(decode_transaction(payload))}.payment")
    try:
        create_atomically(file, payload)
    except FileExistsError:
        return _load(file)
    return Payment(decode_transaction(payload), payload, file, is_resumed=False)


async def send_payment(network: Connections, payment: Payment) -> Ordered:
    """Have a payment ordered and return where it is; sent again, it is where it was.

    Raises NeverOrdered if its time has passed without it, and the errors of the sequencer.
    """
    sequencer, bundle = await network.sequencer(), payment.bundle
    try:
        return await sequencer.submit(bundle)
    except Expired:
        # It may have been ordered in time, so long ago that the order does not know the bundle by heart.
        bundle_id = bundle_id_of(network.genesis.chain_id, bundle)
        return await sequencer.placement(bundle_id, bundle.valid_until_ms)


async def await_receipt(
    network: Connections, payment: Payment, *, wait_ms: int, say: Say
) -> TransactionReceipt:
    """Wait for what the rollup did with a payment that is ordered.

    Raises CommandFailed if the rollup has not executed it in time.
    """
    transaction = payment.transaction
    say(f"waiting for rollup {transaction.rollup}")
    nodes = Failover(await network.nodes(transaction.rollup))
    try:
        return await nodes.ask(lambda node: node.receipt(transaction.id, wait_ms=wait_ms))
    except NotFound:
        raise CommandFailed(
            f"payment {transaction.id.hex()} is ordered; rollup {transaction.rollup} has not executed it yet",
            advice=REPEAT_ADVICE,
            code="NOT_EXECUTED_YET",
            exit_code=EXIT_UNKNOWN,
        ) from None


async def pay(
    network: Connections, key: SigningKey, rollup: RollupId, call: Transfer | Faucet, *, say: Say
) -> tuple[Payment, Ordered]:
    """Have a payment ordered, once, and return it with its place.

    One that was begun before and can never be ordered any more is forgotten, and made anew. Raises as
    `keep_payment` and `send_payment`.
    """
    trader = Trader(key, network.genesis)
    sequencer = await network.sequencer()
    while True:
        say("asking for log time")
        time_ms = await sequencer.time_ms()
        payment = keep_payment(network.network.wallet, trader, rollup, call, time_ms=time_ms)
        say(f"sending payment {payment.transaction.id.hex()}")
        try:
            return payment, await send_payment(network, payment)
        except NeverOrdered:
            payment.forget()
            if not payment.is_resumed:
                raise


def _intent(transaction: RollupTransaction) -> str:
    """Return the name of what is wanted, whenever and how often."""
    head = f"{transaction.chain.hex()}|{transaction.rollup}|{transaction.signer.hex()}|{transaction.method}|"
    return hashlib.sha256(head.encode() + transaction.arguments).hexdigest()


def _load(file: Path) -> Payment:
    try:
        payload = file.read_bytes()
        return Payment(decode_transaction(payload), payload, file, is_resumed=True)
    except FileNotFoundError:
        raise DataRefused(
            f"{file} vanished: another command finished this very payment; see what you have"
        ) from None
    except (OSError, Malformed) as error:
        raise DataRefused(f"{file} cannot be read: {error}; move it away if the payment was made") from error
