"""`lockstep swap`: trade across rollups, from the trader's side.

Owns what can be typed to act; `swap_reading` has the commands that only look. What is done lies in the
trader's SDK (`bridge.client`), which records every swap in the wallet before it sends anything.
"""

import click

from bridge.client import REVEAL_NAMES, SwapPhase
from deploy.commands.frame import (
    Command,
    CommandFailed,
    Options,
    network_options,
    run,
)
from deploy.commands.parameters import ACCOUNT, AMOUNT, DURATION, Amount, key_option
from deploy.commands.swap_agreeing import agree, balance_warnings
from deploy.commands.swap_desk import (
    at_counter,
    find_agreed,
    find_proposed,
    find_recorded,
    find_view,
)
from deploy.commands.swap_driving import drive_and_show, resume_all
from deploy.commands.swap_reading import explain, list_swaps, show, watch
from deploy.commands.swap_showing import (
    accept_lines,
)
from deploy.commands.swap_terms import (
    SWAP,
    LegType,
    typed_legs,
    typed_premium,
    verify_expected,
    verify_times,
)
from deploy.lazy_group import LazyGroup
from lockstep.signing import SigningKey
from lockstep.terms import Leg
from lockstep.types import PublicKey

_wait = click.option("--wait", is_flag=True, help="Go on to the swap's end, and tell how it ended.")
_timeout = click.option(
    "--timeout",
    "timeout_ms",
    type=DURATION,
    help="Give up after so long; what was begun is gone on with by `resume`.",
)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def swap() -> None:
    """Trade across rollups: all legs move, or none.

    SWAP is a swap's id or the first digits of it. Every swap of yours is recorded in the wallet before
    anything is sent; after a crash `resume` goes on with it.
    """


@swap.command(cls=Command)
@network_options
@click.option(
    "--give", "gives", type=AMOUNT, multiple=True, metavar="AMOUNT:ASSET@ROLLUP", help="What you give."
)
@click.option(
    "--get", "gets", type=AMOUNT, multiple=True, metavar="AMOUNT:ASSET@ROLLUP", help="What you get."
)
@click.option("--with", "counterparty", type=ACCOUNT, metavar="NAME|HEX", help="With whom you swap.")
@click.option(
    "--leg",
    "legs",
    type=LegType(),
    multiple=True,
    metavar="FROM:TO:AMOUNT:ASSET@ROLLUP",
    help="One leg of a swap between any number of parties; instead of --give, --get and --with.",
)
@key_option
@click.option(
    "--reveal",
    type=click.Choice(list(REVEAL_NAMES)),
    default="by-trader",
    show_default=True,
    help="Who shows the preimage: you, once you checked what is locked; you in advance, so that it commits "
    "by itself; or the coordinator, too, once all is locked.",
)
@click.option(
    "--lock-within",
    "lock_within_ms",
    type=DURATION,
    default="30s",
    show_default=True,
    help="Every lock must be attested by then; at most 59s.",
)
@click.option(
    "--reveal-within",
    "reveal_within_ms",
    type=DURATION,
    default="30s",
    show_default=True,
    help="You must reveal by then, counted from the one before; at least 5s.",
)
@click.option(
    "--premium",
    metavar="AMOUNT",
    help="What you pay if you do not reveal: of the asset of your first leg, to who gets that.",
)
@_wait
@_timeout
def propose(
    options: Options,
    gives: tuple[Amount, ...],
    gets: tuple[Amount, ...],
    counterparty: PublicKey | None,
    legs: tuple[Leg, ...],
    key: SigningKey,
    reveal: str,
    lock_within_ms: int,
    reveal_within_ms: int,
    premium: str | None,
    wait: bool,  # noqa: FBT001 - click passes options by name
    timeout_ms: int | None,
) -> None:
    """Propose a swap and sign your side.

    Such as --give 5.00:gold@alpha --get 7.50:silver@beta --with bob --key alice, with amounts in whole units.
    Prints the swap's id and what the others type to accept. Typed again it is another swap; to go on with
    this one, `resume` it.
    """
    account = key.public_key
    verify_times(lock_within_ms, reveal_within_ms)
    chosen = typed_legs(account, gives=gives, gets=gets, counterparty=counterparty, legs=legs)
    priced = typed_premium(premium, account, chosen, options)

    async def work() -> int:
        async with at_counter(options) as counter:
            desk = counter.desk(key)
            recorded = await desk.propose(
                chosen,
                lock_within_ms=lock_within_ms,
                reveal_within_ms=reveal_within_ms,
                reveal=REVEAL_NAMES[reveal],
                premium=priced,
            )
            following = accept_lines(options, recorded, counter.names)
            warnings = await balance_warnings(counter, recorded.terms, account)
            if not options.is_json:
                click.echo(f"swap {recorded.swap_id.hex()} is in your wallet", err=True)
                if wait:
                    # They must act while this command waits.
                    click.echo("\n".join(("the others type:", *following)), err=True)
            return await drive_and_show(
                counter,
                key,
                recorded,
                wait=wait,
                timeout_ms=timeout_ms,
                following=following,
                warnings=warnings,
            )

    run(options, work)


@swap.command(cls=Command)
@network_options
@click.argument("swap_id", type=SWAP, metavar="SWAP")
@key_option
@click.option(
    "--give",
    "gives",
    type=AMOUNT,
    multiple=True,
    metavar="AMOUNT:ASSET@ROLLUP",
    help="What you expect to give.",
)
@click.option(
    "--get", "gets", type=AMOUNT, multiple=True, metavar="AMOUNT:ASSET@ROLLUP", help="What you expect to get."
)
@click.option(
    "--yes", is_flag=True, help="Agree to whatever the terms say; with 16 digits of the swap's id or more."
)
@click.option(
    "--held-at-most",
    "held_ms_max",
    type=DURATION,
    help="For how long what you give may be held; 10m where you are not asked.",
)
@_wait
@_timeout
def accept(
    options: Options,
    swap_id: str,
    key: SigningKey,
    gives: tuple[Amount, ...],
    gets: tuple[Amount, ...],
    yes: bool,  # noqa: FBT001 - click passes options by name
    held_ms_max: int | None,
    wait: bool,  # noqa: FBT001 - click passes options by name
    timeout_ms: int | None,
) -> None:
    """Read a swap's terms, agree, and sign your side.

    On a terminal you are asked. A script says --give and --get, which must be exactly what the terms say, or
    --yes. What was agreed to before is gone on with.
    """

    async def work() -> int:
        async with at_counter(options) as counter:
            desk = counter.desk(key)
            agreed = find_agreed(counter, swap_id, key.public_key)
            if agreed is not None:
                verify_expected(agreed.terms, key.public_key, gives=gives, gets=gets, names=counter.names)
                return await drive_and_show(counter, key, agreed, wait=wait, timeout_ms=timeout_ms)
            view = await find_view(counter, swap_id, party=key.public_key)
            if all(leg.sender != key.public_key for leg in view.terms.legs):
                name = counter.names.account(key.public_key)
                raise CommandFailed(
                    f"{name} gives nothing in swap {view.swap_id.hex()}: there is nothing to sign",
                    advice="name the key of an account that gives a leg",
                )
            verify_expected(view.terms, key.public_key, gives=gives, gets=gets, names=counter.names)
            await agree(
                counter,
                view,
                key.public_key,
                typed_id=swap_id,
                is_expected=bool(gives and gets),
                is_agreed=yes,
                held_ms_max=held_ms_max,
            )
            recorded = await desk.accept(view.terms_bytes)
            warnings = await balance_warnings(counter, recorded.terms, key.public_key)
            return await drive_and_show(
                counter, key, recorded, wait=wait, timeout_ms=timeout_ms, warnings=warnings
            )

    run(options, work)


@swap.command(cls=Command)
@network_options
@click.argument("swap_id", type=SWAP, metavar="SWAP")
@key_option
@_timeout
def reveal(options: Options, swap_id: str, key: SigningKey, timeout_ms: int | None) -> None:
    """Check what is locked for you, show the preimage, and see the swap to its end.

    Only who proposed it can. What is not locked as agreed is told, and nothing is shown.
    """

    async def work() -> int:
        async with at_counter(options) as counter:
            recorded = await find_proposed(
                counter.desk(key), counter, swap_id, why="has the preimage and can reveal it"
            )
            return await drive_and_show(counter, key, recorded, wait=True, timeout_ms=timeout_ms)

    run(options, work)


@swap.command(cls=Command)
@network_options
@click.argument("swap_id", type=SWAP, metavar="SWAP")
@key_option
@click.option(
    "--wait/--no-wait",
    default=True,
    help="See it to its end, the default; or send what can be sent now, and tell what can still happen.",
)
@_timeout
def cancel(
    options: Options,
    swap_id: str,
    key: SigningKey,
    wait: bool,  # noqa: FBT001 - click passes options by name
    timeout_ms: int | None,
) -> None:
    """Withdraw a swap that you proposed: every lock returns.

    Waits until it is over for good. Before it is in the order nothing can be sent, and whoever has the locks
    can still open it: it is cancelled as soon as that happens, which has you pay the premium if all was
    locked, or it lapses with its time to lock. Once you revealed, it is too late.
    """

    async def work() -> int:
        async with at_counter(options) as counter:
            desk = counter.desk(key)
            recorded = await find_proposed(desk, counter, swap_id, why="can cancel it")
            if recorded.outcome is SwapPhase.COMMITTED:
                raise CommandFailed(
                    f"swap {recorded.swap_id.hex()} is COMMITTED: it is too late to cancel it",
                    advice="to have back what you gave, propose another swap",
                    code="COMMITTED",
                )
            cancelled = desk.cancel(recorded)
            return await drive_and_show(counter, key, cancelled, wait=wait, timeout_ms=timeout_ms)

    run(options, work)


@swap.command(cls=Command)
@network_options
@click.argument("swap_id", type=SWAP, metavar="[SWAP]", required=False)
@click.option(
    "--all", "is_all", is_flag=True, help="Every swap of this key in the wallet that is not at its end."
)
@key_option
@_timeout
def resume(
    options: Options,
    swap_id: str | None,
    is_all: bool,  # noqa: FBT001 - click passes options by name
    key: SigningKey,
    timeout_ms: int | None,
) -> None:
    """Go on with a swap from wherever it stands, to its end. Nothing is done twice."""
    if (swap_id is None) != is_all:
        raise click.UsageError("name a swap, or say --all")

    async def work() -> int:
        async with at_counter(options) as counter:
            if swap_id is not None:
                recorded = await find_recorded(counter.desk(key), counter, swap_id)
                return await drive_and_show(counter, key, recorded, wait=True, timeout_ms=timeout_ms)
            return await resume_all(counter, key, timeout_ms=timeout_ms)

    run(options, work)


for command in (show, explain, list_swaps, watch):
    swap.add_command(command)
swap.add_lazy("quote", "deploy.commands.quote", "Ask makers for a price, and take the best.")
