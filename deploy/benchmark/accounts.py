"""Funded accounts, and transactions that are made before the clock starts.

Owns which keys the benchmark's accounts have, so that genesis and every worker know the same ones. They are
no secrets. Sends nothing.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Final

from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.genesis import Genesis, RollupDefinition, encode_genesis
from lockstep.genesis_schema import ANCHOR_INTERVAL_BLOCKS_DEFAULT
from lockstep.order import Bundle, Transaction
from lockstep.signing import SigningKey
from lockstep.transactions import SALT_BYTES, Transfer, sign_transaction
from lockstep.types import ChainId, Namespace, PublicKey, RollupId

FUNDS: Final = 10**12
"""Base units of each asset that each account has from the start."""

WINDOW_MS: Final = 500_000
"""How long what was made ahead can be ordered, in log time, unless told otherwise."""

SIGNERS_MAX: Final = 20_000
"""How many accounts have a key. All others are only ever paid: a million keys would take minutes to make."""


@cache
def account_key(number: int) -> SigningKey:
    """Return the key of an account."""
    return SigningKey(sha256(b"lockstep benchmark account" + number.to_bytes(4)).digest())


def account(number: int) -> PublicKey:
    """Return the name of an account, with a key or without."""
    if number < SIGNERS_MAX:
        return account_key(number).public_key
    return PublicKey(sha256(b"lockstep benchmark account without a key" + number.to_bytes(4)).digest())


def funded_genesis(
    genesis: Genesis, accounts: Mapping[RollupId, int], *, more_namespaces: Sequence[str] = ()
) -> bytes:
    """Return a genesis file like another, where so many accounts have funds on each rollup.

    `more_namespaces` are rollups that nobody executes.
    """
    most = max(accounts.values(), default=0)
    allocations = tuple(Allocation(account(number), FUNDS) for number in range(most))
    rollups = []
    for rollup in genesis.rollups:
        bank = rollup.modules.bank
        assert bank is not None, "a devnet's rollups have one"
        funded = allocations[: accounts.get(rollup.id, 0)]
        assets = tuple(replace(asset, allocations=(*asset.allocations, *funded)) for asset in bank.assets)
        modules = replace(rollup.modules, bank=replace(bank, assets=assets))
        rollups.append(replace(rollup, modules=modules))
    attesters = AttesterSet(1, (account_key(0).public_key,))
    rollups += [RollupDefinition(RollupId(name), attesters) for name in more_namespaces]
    return encode_genesis(
        name=genesis.name,
        genesis_time_ms=genesis.genesis_time_ms,
        sequencer=genesis.sequencer,
        settlement=genesis.settlement,
        governance=genesis.governance,
        rollups=rollups,
        rotation_delay_blocks=genesis.rotation_delay_blocks,
        # A devnet anchors more often than others, for people to see. What is measured here does as others do.
        anchor_interval_blocks=ANCHOR_INTERVAL_BLOCKS_DEFAULT,
    )


def opaque_bundles(
    namespaces: Sequence[str], *, count: int, payload_bytes: int, valid_until_ms: int
) -> Iterator[Bundle]:
    """Yield bundles of one transaction of random bytes each, for the namespaces in turns."""
    for place in range(count):
        namespace = Namespace(namespaces[place % len(namespaces)])
        yield Bundle((Transaction(namespace, secrets.token_bytes(payload_bytes)),), valid_until_ms)


def transfer_bundles(
    chain: ChainId, assets: Sequence[tuple[str, str]], *, count: int, accounts: int, valid_until_ms: int
) -> Iterator[Bundle]:
    """Yield bundles of one signed transfer each, for the rollups in turns.

    `assets` are pairs of rollup and asset. Senders take turns, from one at random on; recipients too, all
    over the accounts. Amounts differ, so that nobody gets what he gives: then no state would change.
    """
    signers, first = min(accounts, SIGNERS_MAX), secrets.randbelow(accounts)
    for place in range(count):
        rollup, asset = assets[place % len(assets)]
        turn = first + place // len(assets)
        payload = sign_transaction(
            account_key(turn % signers),
            chain=chain,
            rollup=RollupId(rollup),
            valid_until_ms=valid_until_ms,
            salt=secrets.token_bytes(SALT_BYTES),
            call=Transfer(asset.encode("ascii"), account((turn * 7_919 + 1) % accounts), 1 + place * 31 % 97),
        )
        yield Bundle((Transaction(Namespace(rollup), payload),), valid_until_ms)
