"""What can be typed: `lockstep rollup show`, `register`, `rotate`, `drain`, `leave` and `veto`.

Owns options, how failures are told, and the exit code: 0 if it is done, 1 if it was refused or failed, 2 if
what was typed cannot be meant. With --json the only line on stdout is the JSON of `deploy.registry.showing`,
also for failures.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypedDict, TypeVar, Unpack

import click
from rich.console import Console

from bridge.settlement.client import SettlementClient
from deploy.node.chain_files import load_genesis, load_key
from deploy.node.failures import ProcessFailure
from deploy.node.logs import LogSettings, configure_logs
from deploy.registry.changing import (
    ChangeRefused,
    Done,
    Wish,
    change_registry,
    tell_settlement,
)
from deploy.registry.following import ChainRegistry, Follower, following
from deploy.registry.showing import change_json, print_json, registry_json, show_change, show_registry
from lockstep.attesters import AttesterSet
from lockstep.errors import LockstepError, Malformed
from lockstep.genesis import ROLE_NAMES, parse_rollup_definition
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

_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}
_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_Command = TypeVar("_Command", bound=Callable[..., object])


class _Key(click.ParamType[PublicKey]):
    """A public key in hex, or the file of a key pair."""

    name = "key"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> PublicKey:
        """Return the public key."""
        text = str(value)
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) == 32:
            return PublicKey(raw)
        if not Path(text).exists():
            self.fail(f"{text} is neither a public key in 64 hex digits nor a key file", param, context)
        try:
            return load_key(Path(text)).public_key
        except ProcessFailure as failure:
            self.fail(str(failure), param, context)


class _ChainOptions(TypedDict):
    """The options of every command."""

    genesis: Path
    sequencer: str
    is_json: bool


class _ChangeOptions(_ChainOptions):
    """The options of every command that changes something."""

    key: Path
    effective_height: int | None
    settlement: str | None
    wait: bool


def _chain_options(command: _Command) -> _Command:
    for option in (
        click.option("--json", "is_json", is_flag=True, help="Print JSON, also if it fails."),
        click.option("--sequencer", metavar="HOST:PORT", required=True, help="Where the sequencer is."),
        click.option("--genesis", type=_FILE, required=True, help="The chain's genesis file."),
    ):
        command = option(command)
    return command


def _sending_options(command: _Command) -> _Command:
    for option in (
        click.option("--wait", is_flag=True, help="Return only when the change has taken effect."),
        click.option(
            "--settlement",
            metavar="HOST:PORT",
            help="Tell the settlement log at once; a sequencer that anchors there does so by itself.",
        ),
        click.option(
            "--effective-height",
            type=click.IntRange(min=1),
            help="The first block in which it holds; soon, if not given.",
        ),
        click.option(
            "--key", type=_FILE, required=True, help="PEM file of the key that signs: governance's, mostly."
        ),
    ):
        command = option(command)
    return _chain_options(command)


@click.command(context_settings=_CONTEXT)
@_chain_options
def show(**options: Unpack[_ChainOptions]) -> None:
    """Show the registry as of now: rollups, keys, pending changes."""

    async def work(follower: Follower, _client: SequencerClient) -> int:
        if options["is_json"]:
            click.echo(print_json(registry_json(follower.chain)))
        else:
            show_registry(Console(highlight=False), follower.chain)
        return 0

    sys.exit(_run(options, work))


@click.command(context_settings=_CONTEXT)
@click.option(
    "--definition",
    type=_FILE,
    required=True,
    help="JSON of the rollup, as an element of `rollups` in a genesis file.",
)
@_sending_options
def register(definition: Path, **options: Unpack[_ChangeOptions]) -> None:
    """Register a rollup. Its id is in the definition, and is used once and for good."""
    try:
        raw = definition.read_bytes()
        subject = parse_rollup_definition(raw).id
    except OSError as error:
        raise click.BadParameter(f"{definition}: {error.strerror}", param_hint="--definition") from error
    except Malformed as error:
        raise click.BadParameter(f"{definition}: {error.message}", param_hint="--definition") from error
    _change(subject, lambda _registry, _key: RegisterRollup(raw), options)


@click.command(context_settings=_CONTEXT)
@click.argument("subject")
@click.option("--new-key", type=_Key(), metavar="KEY", help="The key that comes.")
@click.option(
    "--old-key", type=_Key(), metavar="KEY", help="A rollup's attester that goes; else that of --key."
)
@click.option(
    "--attester", "attesters", type=_Key(), metavar="KEY", multiple=True, help="One of a whole new set."
)
@click.option("--threshold", type=click.IntRange(1, 255), help="How many of that set must agree.")
@_sending_options
def rotate(
    subject: str,
    new_key: PublicKey | None,
    old_key: PublicKey | None,
    attesters: tuple[PublicKey, ...],
    threshold: int | None,
    **options: Unpack[_ChangeOptions],
) -> None:
    """Replace keys of SUBJECT: a rollup, or a role (sequencer, settlement, governance).

    One key by --new-key, signed by governance, or, far enough ahead that governance can veto it, by the key
    that goes. A rollup's whole set by --attester, once for each, and --threshold. A KEY is 64 hex digits or a
    key file. Open swaps keep the attesters that they were opened under.
    """
    is_role = subject in ROLE_NAMES
    if attesters:
        if is_role or new_key or old_key or threshold is None:
            raise click.UsageError(
                "--attester needs --threshold and a rollup, and goes without --new-key, --old-key"
            )
        _change(subject, lambda _registry, _key: SetAttesters(AttesterSet(threshold, attesters)), options)
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

    _change(subject, action, options)


@click.command(context_settings=_CONTEXT)
@click.argument("rollup")
@_sending_options
def drain(rollup: str, **options: Unpack[_ChangeOptions]) -> None:
    """Let no new swap name ROLLUP. Open ones go on to their end."""
    _change(rollup, lambda _registry, _key: Drain(), options)


@click.command(context_settings=_CONTEXT)
@click.argument("rollup")
@_sending_options
def leave(rollup: str, **options: Unpack[_ChangeOptions]) -> None:
    """End ROLLUP for good. It must be draining, and stays until it has been so for a day of log time."""
    _change(rollup, lambda _registry, _key: Leave(), options)


@click.command(context_settings=_CONTEXT)
@click.argument("subject")
@click.argument("sequence", type=click.IntRange(min=1))
@_sending_options
def veto(subject: str, sequence: int, **options: Unpack[_ChangeOptions]) -> None:
    """Withdraw the pending change SEQUENCE of SUBJECT, as `show` names them. Acts at once."""
    _change(subject, lambda _registry, _key: Veto(sequence), options)


def _change(subject: str, action: Callable[[Registry, PublicKey], Action], options: _ChangeOptions) -> None:
    """Make a change and exit; `action` is told the registry and the key that signs."""

    async def work(follower: Follower, client: SequencerClient) -> int:
        key = load_key(options["key"])
        asked = options["effective_height"]
        height = None if asked is None else Height(asked)
        wish = Wish(subject, action(follower.chain.registry, key.public_key), height)
        _verify_known(follower.chain.registry, wish)
        done, trouble = await _change_and_tell(follower, client, wish, key, options)
        if options["is_json"]:
            click.echo(print_json(change_json(done, trouble)))
        else:
            show_change(Console(highlight=False), done)
            if trouble:
                click.echo(f"the settlement log did not take it: {trouble}", err=True)
        return 1 if trouble else 0

    sys.exit(_run(options, work))


async def _change_and_tell(
    follower: Follower, client: SequencerClient, wish: Wish, key: SigningKey, options: _ChangeOptions
) -> tuple[Done, str]:
    """Make a change and tell the settlement log; return what became of it, and why the log has it not."""
    done = await change_registry(follower, client, wish, key, wait=options["wait"])
    if options["settlement"] is None:
        return done, ""
    keys = follower.chain.registry.keys
    async with SettlementClient(
        options["settlement"], follower.genesis, log_key=lambda: keys["settlement"]
    ) as log:
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


def _run(options: _ChainOptions, work: Callable[[Follower, SequencerClient], Awaitable[int]]) -> int:
    """Follow the order to its head, do the work there, and return the exit code."""
    # What the clients tell goes to stderr, and only what a person has to look at.
    configure_logs(LogSettings(level="warning"), process="lockstep rollup")
    try:
        return asyncio.run(_at_head(options, work))
    except ChangeRefused as refused:
        return _failed(options, "REFUSED", str(refused))
    except LockstepError as error:
        return _failed(options, error.code, error.message)
    except ProcessFailure as failure:
        return _failed(options, "SETTINGS", str(failure), exit_code=failure.exit_code)


async def _at_head(
    options: _ChainOptions, work: Callable[[Follower, SequencerClient], Awaitable[int]]
) -> int:
    _, genesis = load_genesis(options["genesis"])
    state = ChainRegistry(genesis)
    status = Console(stderr=True).status("following the order", spinner="line")
    async with SequencerClient(
        options["sequencer"], genesis, sequencer_key=state.sequencer_keys.at
    ) as client:
        with status:
            async with following(
                client, state, genesis=genesis, peer=f"sequencer {options['sequencer']}", say=status.update
            ) as follower:
                await follower.to_head()
                status.update("waiting for the order")
                return await work(follower, client)


def _failed(options: _ChainOptions, code: str, message: str, *, exit_code: int = 1) -> int:
    if options["is_json"]:
        click.echo(print_json({"ok": False, "code": code, "error": message}))
    else:
        click.echo(message, err=True)
    return exit_code
