"""`lockstep transfer` and `lockstep faucet`: payments on one rollup.

Owns what can be typed and how it is shown. That a payment is made once is `deploy.commands.paying`'s.
"""

from collections.abc import Mapping
from typing import Final

import click

from deploy.commands.connecting import connected
from deploy.commands.frame import (
    Command,
    CommandFailed,
    Options,
    network_options,
    print_json,
    progress,
    run,
)
from deploy.commands.parameters import (
    ACCOUNT,
    AMOUNT,
    DURATION,
    Amount,
    find_asset,
    in_units,
    key_option,
)
from deploy.commands.paying import Payment, await_receipt, pay
from lockstep.limits import MEMO_BYTES_MAX
from lockstep.receipts import ReceiptCode, TransactionReceipt
from lockstep.signing import SigningKey
from lockstep.transactions import Faucet, Transfer
from lockstep.types import PublicKey
from sequencer.client import Ordered

_ADVICE: Final = {
    ReceiptCode.INSUFFICIENT_FUNDS: "the account has less than that; see `lockstep account balance`",
    ReceiptCode.EXPIRED: "the order took longer than the payment is valid; nothing moved: pay again",
    ReceiptCode.OVERFLOW: "there would be more of the asset than can be; ask for less",
    ReceiptCode.FAUCET_FORBIDDEN: "the asset has no faucet; get it from somebody who has it",
    ReceiptCode.FAUCET_LIMIT: "that is more than the faucet gives at once; ask for less",
}
"""What to do about a payment that the rollup refused; other codes are in the guide of the rollups."""

_no_wait = click.option(
    "--no-wait", is_flag=True, help="Return as soon as it is ordered, without what the rollup makes of it."
)
_timeout = click.option(
    "--timeout",
    "timeout_ms",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long to wait for the rollup.",
)


@click.command(cls=Command)
@network_options
@click.argument("amount", type=AMOUNT, metavar="AMOUNT:ASSET@ROLLUP")
@click.option("--to", "recipient", type=ACCOUNT, required=True, metavar="NAME|HEX", help="Who gets it.")
@key_option
@click.option("--memo", default="", help=f"At most {MEMO_BYTES_MAX} bytes of text for the recipient.")
@_no_wait
@_timeout
def transfer(
    options: Options,
    amount: Amount,
    recipient: PublicKey,
    key: SigningKey,
    memo: str,
    no_wait: bool,  # noqa: FBT001 - click passes options by name
    timeout_ms: int,
) -> None:
    """Pay somebody, such as 5.25:gold@alpha.

    Repeat the command if it ends without an answer: until its outcome is known it is the same payment, and is
    made once.
    """
    if len(memo.encode()) > MEMO_BYTES_MAX:
        raise click.BadParameter(f"it has more than {MEMO_BYTES_MAX} bytes", param_hint="--memo")
    call = Transfer(amount.asset.encode("ascii"), recipient, amount.base_units, memo.encode())
    told = {"recipient": recipient.hex(), "memo": memo}
    _pay(options, key, amount, call, told, wait_ms=None if no_wait else timeout_ms)


@click.command(cls=Command)
@network_options
@click.argument("amount", type=AMOUNT, metavar="AMOUNT:ASSET@ROLLUP")
@key_option
@_no_wait
@_timeout
def faucet(
    options: Options,
    amount: Amount,
    key: SigningKey,
    no_wait: bool,  # noqa: FBT001 - click passes options by name
    timeout_ms: int,
) -> None:
    """Create money for yourself, where genesis allows it, such as 5.25:gold@alpha."""
    asset = find_asset(options.genesis, amount.rollup, amount.asset)
    if amount.base_units > asset.faucet_max:
        most = f"{in_units(asset.faucet_max, asset.decimals)} {asset.id}"
        why = f"the faucet gives at most {most} at once" if asset.faucet_max else f"{asset.id} has no faucet"
        raise click.BadParameter(why, param_hint="AMOUNT:ASSET@ROLLUP")
    call = Faucet(amount.asset.encode("ascii"), amount.base_units)
    _pay(options, key, amount, call, {}, wait_ms=None if no_wait else timeout_ms)


def _pay(
    options: Options,
    key: SigningKey,
    amount: Amount,
    call: Transfer | Faucet,
    told: Mapping[str, str],
    *,
    wait_ms: int | None,
) -> None:
    async def work() -> None:
        async with connected(options) as network:
            with progress("paying") as say:
                payment, ordered = await pay(network, key, amount.rollup, call, say=say)
                if payment.is_resumed and not options.is_json:
                    click.echo(
                        "a payment like this was begun before and its end not seen: going on", err=True
                    )
                receipt = None
                if wait_ms is not None:
                    receipt = await await_receipt(network, payment, wait_ms=wait_ms, say=say)
                payment.forget()
        _show_payment(options, amount, payment, ordered, receipt, told)

    run(options, work)


def _show_payment(
    options: Options,
    amount: Amount,
    payment: Payment,
    ordered: Ordered,
    receipt: TransactionReceipt | None,
    told: Mapping[str, str],
) -> None:
    """Show what became of a payment. Raises CommandFailed if the rollup refused it."""
    transaction, place = payment.transaction, ordered.placement
    if receipt is not None and receipt.code is not ReceiptCode.OK:
        raise CommandFailed(
            f"payment {transaction.id.hex()} failed in block {receipt.height}: {receipt.code.name}",
            advice=_ADVICE.get(receipt.code, "see the codes of receipts in the guide of the rollups"),
            code=receipt.code.name,
        )
    if options.is_json:
        print_json(
            {
                "ok": True,
                "transaction_id": transaction.id.hex(),
                "rollup": amount.rollup,
                "asset": amount.asset,
                "amount": str(amount.base_units),
                "sender": transaction.signer.hex(),
                **told,
                "height": place.height,
                "index": place.first_index,
                "valid_until_ms": transaction.valid_until_ms,
                "code": None if receipt is None else receipt.code.name,
            }
        )
        return
    done = "ordered" if receipt is None else "done"
    click.echo(f"{done}: {amount}, in block {place.height}\npayment {transaction.id.hex()}")
