"""Funded accounts, and transactions that are made before the clock starts.

Owns which keys the benchmark's accounts have, so that genesis and every worker know the same ones. They are
no secrets. Sends nothing.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Final

from lockstep.genesis import Allocation, Genesis, encode_genesis
from lockstep.genesis_schema import ANCHOR_INTERVAL_BLOCKS_DEFAULT
from lockstep.order import Bundle, Transaction
from lockstep.signing import SigningKey
from lockstep.transactions import SALT_BYTES, Transfer, sign_transaction
from lockstep.types import ChainId, Namespace, RollupId

FUNDS: Final = 10**12
"""Base units of each asset that each account has from the start."""

WINDOW_MS: Final = 500_000
"""How long what was made ahead can be ordered, in log time."""


@cache
def account_key(number: int) -> SigningKey:
    """Return the key of an account."""
    return SigningKey(sha256(b"lockstep benchmark account" + number.to_bytes(4)).digest())


def funded_genesis(genesis: Genesis, accounts: int) -> bytes:
    """Return a genesis file like another, where `accounts` accounts have funds on every rollup."""
    allocations = tuple(Allocation(account_key(number).public_key, FUNDS) for number in range(accounts))
    rollups = []
    for rollup in genesis.rollups:
        bank = rollup.modules.bank
        assert bank is not None, "a devnet's rollups have one"
        assets = tuple(replace(asset, allocations=asset.allocations + allocations) for asset in bank.assets)
        modules = replace(rollup.modules, bank=replace(bank, assets=assets))
        rollups.append(replace(rollup, modules=modules))
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
    namespaces: Sequence[str], *, count: int, payload_bytes: int, time_ms: int
) -> Iterator[Bundle]:
    """Yield bundles of one transaction of random bytes each, for the namespaces in turns."""
    for place in range(count):
        namespace = Namespace(namespaces[place % len(namespaces)])
        yield Bundle((Transaction(namespace, secrets.token_bytes(payload_bytes)),), time_ms + WINDOW_MS)


def transfer_bundles(
    chain: ChainId, assets: Sequence[tuple[str, str]], *, count: int, accounts: int, time_ms: int
) -> Iterator[Bundle]:
    """Yield bundles of one signed transfer each, for the rollups in turns.

    `assets` are pairs of rollup and asset. Senders take turns; recipients too, with another step. Amounts
    differ, so that nobody gets what he gives: then no state would change.
    """
    for place in range(count):
        rollup, asset = assets[place % len(assets)]
        recipient = account_key((place * 7 + 1) % accounts).public_key
        payload = sign_transaction(
            account_key(place % accounts),
            chain=chain,
            rollup=RollupId(rollup),
            valid_until_ms=time_ms + WINDOW_MS,
            salt=secrets.token_bytes(SALT_BYTES),
            call=Transfer(asset.encode("ascii"), recipient, 1 + place * 31 % 97),
        )
        yield Bundle((Transaction(Namespace(rollup), payload),), time_ms + WINDOW_MS)
