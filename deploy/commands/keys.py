"""`lockstep keys`: make keys, and tell which accounts they are.

Owns what can be typed. A key is a file; its public half is the account, on every rollup. No command shows a
private key.
"""

import secrets
from pathlib import Path

import click

from deploy.commands.frame import (
    Command,
    CommandFailed,
    Options,
    network_options,
    print_json,
    print_table,
    run,
)
from deploy.commands.parameters import ACCOUNT, key_names, key_path
from deploy.lazy_group import LazyGroup
from deploy.node.chain_files import load_key, save_new_key
from deploy.node.failures import SettingsInvalid
from lockstep.signing import SEED_BYTES
from lockstep.types import PublicKey


@click.group(cls=LazyGroup)
def keys() -> None:
    """Make keys, and name their accounts."""


@keys.command(cls=Command)
@network_options
@click.argument("name", metavar="NAME|FILE")
def new(options: Options, name: str) -> None:
    """Make a key: NAME in the network's folder of keys, or a FILE that ends with .pem.

    It is readable by you alone. Keep a copy: whoever has it has what the account has, and nobody can make it
    again.
    """

    async def work() -> None:
        path = _new_path(options, name)
        account = save_new_key(path, secrets.token_bytes(SEED_BYTES)).public_key
        if options.is_json:
            print_json({"ok": True, "name": path.stem, "account": account.hex(), "file": str(path)})
        else:
            click.echo(f"account {account.hex()}\nkey file {path}")

    run(options, work)


@keys.command(name="list", cls=Command)
@network_options
def list_keys(options: Options) -> None:
    """List the names in the network's folder of keys, with their accounts."""

    async def work() -> None:
        folder = options.network.keys
        told = [_told(folder, name) for name in key_names(folder)]
        if options.is_json:
            print_json({"ok": True, "folder": str(folder), "keys": told})
        else:
            print_table(
                ("name", "account"), [(each["name"], each["account"] or each["error"]) for each in told]
            )

    run(options, work)


@keys.command(cls=Command)
@network_options
@click.argument("account", type=ACCOUNT, metavar="NAME|FILE")
def show(options: Options, account: PublicKey) -> None:
    """Show the account of a key: its public half in hex."""

    async def work() -> None:
        if options.is_json:
            print_json({"ok": True, "account": account.hex()})
        else:
            click.echo(account.hex())

    run(options, work)


def _new_path(options: Options, name: str) -> Path:
    """Return where a new key goes, its folder made. Raises CommandFailed, SettingsInvalid."""
    path = key_path(name, options)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(
            f"{path.parent} cannot be made: {error.strerror}", advice="name a folder in which you may write"
        ) from error
    return path


def _told(folder: Path, name: str) -> dict[str, str]:
    try:
        return {"name": name, "account": load_key(folder / f"{name}.pem").public_key.hex(), "error": ""}
    except SettingsInvalid as failure:
        return {"name": name, "account": "", "error": str(failure)}
