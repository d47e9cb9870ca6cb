"""What can be typed: `lockstep rollup show`, `register`, `rotate`, `drain`, `leave` and `veto`.

Owns their options and what they do one after the other. How they end is `deploy.commands.frame`'s; what JSON
they print is `deploy.registry.showing`'s.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn, TypedDict, TypeVar, Unpack

import click

from bridge.settlement.client import SettlementClient
from deploy.commands.frame import (
    EXIT_DONE,
    EXIT_FAILED,
    Command,
    CommandFailed,
    Options,
    network_options,
    print_json,
    progress,
    run,
)
from deploy.commands.parameters import ACCOUNT, KEY
from deploy.node.chain_files import load_genesis
from deploy.registry.changing import (
    ChangeRefused,
    Done,
    Wish,
    change_registry,
    tell_settlement,
)
from deploy.registry.following import ChainRegistry, Follower, following
from deploy.registry.showing import change_json, registry_json, show_change, show_registry
from lockstep.attesters import AttesterSet
from lockstep.errors import LockstepError, Malformed
from lockstep.genesis import ROLE_NAMES, Genesis, parse_rollup_definition
from lockstep.registry import Registry
from lockstep.registry_entries import (
    Action,
    Drain,
    Leave,
    RegisterRollup,
    RotateAttester,
    RotateKey,
    SetAttesters,
    Veto,
)
from lockstep.signing import SigningKey
from lockstep.types import Height, PublicKey, RollupId
from sequencer.client import SequencerClient

_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_Command = TypeVar("_Command", bound=Callable[..., object])


class _ChainOptions(TypedDict):
    """Where the chain is, if not where the network file says."""

    genesis: Path | None
    sequencer: str | None


class _ChangeOptions(_ChainOptions):
    """The options of every command that changes something."""

    key: SigningKey
    effective_height: int | None
    settlement: str | None
    wait: bool


def _chain_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--sequencer", metavar="HOST:PORT", help="Where the sequencer is; else as the network says."
        ),
        click.option("--genesis", type=_FILE, help="The chain's genesis file; else as the network says."),
    ):
        command = option(command)
    return command


def _sending_options(command: _Command) -> _Command:
    for option in (
        click.option("--wait", is_flag=True, help="Return only when the change has taken effect."),
        click.option(
            "--settlement",
            metavar="HOST:PORT",
            help="The settlement log, which is told at once; else as the network says, if it is named.",
        ),
        click.option(
            "--effective-height",
            type=click.IntRange(min=1),
            help="The first block in which it holds; soon, if not given.",
        ),
        click.option(
            "--key",
            type=KEY,
            metavar="NAME|FILE",
            required=True,
            help="The key that signs, by name or file: governance's, mostly.",
        ),
    ):
        command = option(command)
    return _chain_options(command)


@click.command(cls=Command)
@network_options
@_chain_options
def show(options: Options, **where: Unpack[_ChainOptions]) -> None:
    """Show the registry as of now: rollups, keys, pending changes."""

    async def work(follower: Follower, _client: SequencerClient) -> int:
        if options.is_json:
            print_json(registry_json(follower.chain))
        else:
            show_registry(follower.chain)
        return EXIT_DONE

    _run(options, where, work)


@click.command(cls=Command)
@network_options
@click.option(
    "--definition",
    type=_FILE,
    required=True,
    help="JSON of the rollup, as an element of `rollups` in a genesis file.",
)
@_sending_options
def register(options: Options, definition: Path, **asked: Unpack[_ChangeOptions]) -> None:
    """Register a rollup. Its id is in the definition, and is used once and for good."""
    try:
        raw = definition.read_bytes()
        subject = parse_rollup_definition(raw).id
    except OSError as error:
        raise click.BadParameter(f"{definition}: {error.strerror}", param_hint="--definition") from error
    except Malformed as error:
        raise click.BadParameter(
            f"{definition}: {error.field} {error.reason}; correct the file", param_hint="--definition"
        ) from error
    _change(options, subject, lambda _registry, _key: RegisterRollup(raw), asked)


@click.command(cls=Command)
@network_options
@click.argument("subject")
@click.option("--new-key", type=ACCOUNT, metavar="KEY", help="The key that comes.")
@click.option(
    "--old-key", type=ACCOUNT, metavar="KEY", help="A rollup's attester that goes; else that of --key."
)
@click.option(
    "--attester", "attesters", type=ACCOUNT, metavar="KEY", multiple=True, help="One of a whole new set."
)
@click.option("--threshold", type=click.IntRange(1, 255), help="How many of that set must agree.")
@_sending_options
def rotate(
    options: Options,
    subject: str,
    new_key: PublicKey | None,
    old_key: PublicKey | None,
    attesters: tuple[PublicKey, ...],
    threshold: int | None,
    **asked: Unpack[_ChangeOptions],
) -> None:
    """Replace keys of SUBJECT: a rollup, or a role (sequencer, settlement, governance).

    One key by --new-key, signed by governance, or, far enough ahead that governance can veto it, by the key
    that goes. A rollup's whole set by --attester, once for each, and --threshold. A KEY is 64 hex digits, a
    key's name or its file. Open swaps keep the attesters that they were opened under.
    """
    is_role = subject in ROLE_NAMES
    if attesters:
        if is_role or new_key or old_key or threshold is None:
            raise click.UsageError(
                "--attester needs --threshold and a rollup, and goes without --new-key, --old-key"
            )
        set_of = SetAttesters(AttesterSet(threshold, attesters))
        _change(options, subject, lambda _registry, _key: set_of, asked)
        return
    if new_key is None or threshold is not None or (is_role and old_key is not None):
        raise click.UsageError("name --new-key (for a rollup with --old-key), or --attester with --threshold")

    def action(registry: Registry, key: PublicKey) -> Action:
        if is_role:
            return RotateKey(new_key)
        record = registry.rollup(subject)
        keys = () if record is None else record.attesters.keys
        if old_key is None and key not in keys and len(keys) != 1:
            raise ChangeRefused(f"{subject} has {len(keys)} attesters; say which of them goes with --old-key")
        return RotateAttester(old_key or (key if key in keys else keys[0]), new_key)

    _change(options, subject, action, asked)


@click.command(cls=Command)
@network_options
@click.argument("rollup")
@_sending_options
def drain(options: Options, rollup: str, **asked: Unpack[_ChangeOptions]) -> None:
    """Let no new swap name ROLLUP. Open ones go on to their end."""
    _change(options, rollup, lambda _registry, _key: Drain(), asked)


@click.command(cls=Command)
@network_options
@click.argument("rollup")
@_sending_options
def leave(options: Options, rollup: str, **asked: Unpack[_ChangeOptions]) -> None:
    """End ROLLUP for good. It must be draining, and stays until it has been so for a day of log time."""
    _change(options, rollup, lambda _registry, _key: Leave(), asked)


@click.command(cls=Command)
@network_options
@click.argument("subject")
@click.argument("sequence", type=click.IntRange(min=1))
@_sending_options
def veto(options: Options, subject: str, sequence: int, **asked: Unpack[_ChangeOptions]) -> None:
    """Withdraw the pending change SEQUENCE of SUBJECT, as `show` names them. Acts at once."""
    _change(options, subject, lambda _registry, _key: Veto(sequence), asked)


def _change(
    options: Options,
    subject: str,
    action: Callable[[Registry, PublicKey], Action],
    asked: _ChangeOptions,
) -> None:
    """Make a change and exit; `action` is told the registry and the key that signs."""

    async def work(follower: Follower, client: SequencerClient) -> int:
        height = None if asked["effective_height"] is None else Height(asked["effective_height"])
        registry = follower.chain.registry
        wish = Wish(subject, action(registry, asked["key"].public_key), height)
        _verify_known(registry, wish)
        done, trouble = await _change_and_tell(options, follower, client, wish, asked)
        if options.is_json:
            print_json(change_json(done, trouble))
        else:
            show_change(done)
            if trouble:
                click.echo(f"the settlement log did not take it: {trouble}", err=True)
        return EXIT_FAILED if trouble else EXIT_DONE

    _run(options, asked, work)


async def _change_and_tell(
    options: Options, follower: Follower, client: SequencerClient, wish: Wish, asked: _ChangeOptions
) -> tuple[Done, str]:
    """Make a change and tell the settlement log; return what became of it, and why the log has it not."""
    done = await change_registry(follower, client, wish, asked["key"], wait=asked["wait"])
    settlement = asked["settlement"]
    if settlement is None and (asked["sequencer"] is None or options.network_path is not None):
        settlement = options.network.settlement
    if settlement is None:
        return done, ""
    keys = follower.chain.registry.keys
    async with SettlementClient(settlement, follower.genesis, log_key=lambda: keys["settlement"]) as log:
        try:
            return replace(done, settlement_index=await tell_settlement(log, done)), ""
        except LockstepError as error:
            return done, error.message


def _verify_known(registry: Registry, wish: Wish) -> None:
    """Refuse a rollup that is not there, in plainer words than the rules have. Raises ChangeRefused."""
    if wish.subject in ROLE_NAMES or isinstance(wish.action, RegisterRollup | Veto):
        return
    if RollupId(wish.subject) not in registry.rollups:
        known = ", ".join(sorted(registry.rollups)) or "none"
        raise ChangeRefused(f"no rollup {wish.subject} was ever registered; there are: {known}")


def _run(
    options: Options, where: _ChainOptions, work: Callable[[Follower, SequencerClient], Awaitable[int]]
) -> NoReturn:
    """Follow the order to its head, do the work there, and exit."""

    async def at_head() -> int:
        genesis = options.genesis if where["genesis"] is None else load_genesis(where["genesis"])[1]
        try:
            return await _at_head(genesis, where["sequencer"] or options.network.sequencer, work)
        except ChangeRefused as refused:
            raise CommandFailed(str(refused)) from refused

    run(options, at_head)


async def _at_head(
    genesis: Genesis, sequencer: str, work: Callable[[Follower, SequencerClient], Awaitable[int]]
) -> int:
    state = ChainRegistry(genesis)
    peer = f"sequencer {sequencer}"
    async with SequencerClient(sequencer, genesis, sequencer_key=state.sequencer_keys.at) as client:
        with progress("following the order") as say:
            async with following(client, state, genesis=genesis, peer=peer, say=say) as follower:
                await follower.to_head()
                say("waiting for the order")
                return await work(follower, client)
