"""The trader's own half of a swap: terms, signatures and preimages, made on the trader's machine.

Owns what is done with a trader's key. Sends nothing. Invariant: everything but new salts is derived from the
key and the terms, so that whoever has the key and finds the terms again (the order keeps them) has lost
nothing in a crash.

A preimage is derived, not drawn:

    signature = Ed25519 over tag("sign-trader-preimage") | chain | salt
    preimage = SHA-256(tag("trader-preimage") | signature)

The signature is deterministic (RFC 8032), known to the key's holder alone, and never leaves this module; the
salt is the terms'. A salt is therefore used for one swap only.
"""

import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from deploy.node.logs import Secret
from lockstep import limits, terms, transactions
from lockstep.genesis import Genesis
from lockstep.hashing import tag
from lockstep.signing import SigningKey
from lockstep.swap_entries import sign_cancel
from lockstep.terms import Leg, LegKind, Premium, Terms, decode_terms, encode_terms, swap_id_of
from lockstep.transactions import Call, Faucet, Lock, Transfer, sign_transaction
from lockstep.types import PublicKey, RollupId, SwapId

PREIMAGE: Final = tag("trader-preimage")
SIGN_PREIMAGE: Final = tag("sign-trader-preimage")

LOCK_WITHIN_MS: Final = 30_000
"""How far ahead of the given log time new terms put `lock_by_ms` unless told otherwise."""

REVEAL_WITHIN_MS: Final = 30_000
"""How far after `lock_by_ms` new terms put `expires_ms` unless told otherwise."""


def transfer_leg(*, rollup: str, sender: PublicKey, recipient: PublicKey, asset: str, amount: int) -> Leg:
    """Return a leg that moves base units of an asset between two accounts of a rollup."""
    return Leg(RollupId(rollup), LegKind.TRANSFER, sender, recipient, asset.encode("ascii"), amount)


class Trader:
    """Who trades: a key, and the chain that it trades on."""

    def __init__(self, key: SigningKey, genesis: Genesis) -> None:
        """Trade with `key` on the chain of `genesis`."""
        self._key = key
        self._chain = genesis.chain_id

    @property
    def account(self) -> PublicKey:
        """The trader's account: the public key, on every rollup."""
        return self._key.public_key

    def new_terms(
        self,
        legs: Sequence[Leg],
        *,
        time_ms: int,
        lock_within_ms: int = LOCK_WITHIN_MS,
        reveal_within_ms: int = REVEAL_WITHIN_MS,
        premium: Premium | None = None,
        salt: bytes | None = None,
    ) -> bytes:
        """Return the bytes of new terms whose revealer is this trader; `preimage` gives the preimage.

        `time_ms` is the newest log time; every lock must be attested within `lock_within_ms` of it (at most
        60,000) and the preimage revealed within `reveal_within_ms` after that (at least 5,000). `salt` is 16
        bytes that were never used before; without it, random ones. Raises `Malformed` for legs or times that
        break a bound.
        """
        salt = secrets.token_bytes(terms.SALT_BYTES) if salt is None else salt
        lock_by_ms = time_ms + lock_within_ms
        return encode_terms(
            Terms(
                chain=self._chain,
                legs=tuple(legs),
                hashlock=sha256(self._derive(salt)).digest(),
                lock_by_ms=lock_by_ms,
                expires_ms=lock_by_ms + reveal_within_ms,
                revealer=self.account,
                premium=premium,
                salt=salt,
            )
        )

    def is_own(self, terms_bytes: bytes) -> bool:
        """Answer whether this trader made terms, so that it has the preimage and may cancel."""
        decoded = decode_terms(terms_bytes)
        return decoded.revealer == self.account and self._opens(decoded)

    def preimage(self, terms_bytes: bytes) -> Secret:
        """Return the preimage of terms that this trader made. ValueError for terms of another's."""
        decoded = decode_terms(terms_bytes)
        if not self._opens(decoded):
            raise ValueError("this key did not make these terms' hashlock; ask the one who proposed them")
        return Secret(self._derive(decoded.salt))

    def legs_to_lock(self, terms_bytes: bytes) -> tuple[int, ...]:
        """Return the legs that this trader gives, which are those it has to lock."""
        legs = decode_terms(terms_bytes).legs
        return tuple(place for place, leg in enumerate(legs) if leg.sender == self.account)

    def sign_lock(self, terms_bytes: bytes, leg: int, *, valid_until_ms: int | None = None) -> bytes:
        """Return the payload of the lock of one of this trader's legs, for the namespace of its rollup.

        Until `valid_until_ms` whoever holds it may use it; by default until the terms' `lock_by_ms`, after
        which no lock of this swap can act. The same arguments give the same bytes. ValueError for a leg that
        is not this trader's.
        """
        decoded = decode_terms(terms_bytes)
        if leg not in range(len(decoded.legs)) or decoded.legs[leg].sender != self.account:
            raise ValueError(f"leg {leg} is not given by this trader; its sender must sign the lock")
        return sign_transaction(
            self._key,
            chain=self._chain,
            rollup=decoded.legs[leg].rollup,
            valid_until_ms=decoded.lock_by_ms if valid_until_ms is None else valid_until_ms,
            # Swap, leg and window name the lock already: signed twice, it is one lock.
            salt=decoded.salt,
            call=Lock(swap_id_of(terms_bytes), leg),
        )

    def sign_cancel(self, swap_id: SwapId) -> bytes:
        """Return the `_swap` entry that cancels a swap whose revealer is this trader."""
        return sign_cancel(self._key, self._chain, swap_id)

    def sign_transfer(
        self,
        rollup: str,
        *,
        asset: str,
        recipient: PublicKey,
        amount: int,
        valid_until_ms: int,
        memo: bytes = b"",
        salt: bytes | None = None,
    ) -> bytes:
        """Return the payload of a transfer. `salt` as in `sign_call`."""
        call = Transfer(asset.encode("ascii"), recipient, amount, memo)
        return self.sign_call(rollup, call, valid_until_ms=valid_until_ms, salt=salt)

    def sign_faucet(
        self, rollup: str, *, asset: str, amount: int, valid_until_ms: int, salt: bytes | None = None
    ) -> bytes:
        """Return the payload that creates base units for this trader, where genesis allows it."""
        call = Faucet(asset.encode("ascii"), amount)
        return self.sign_call(rollup, call, valid_until_ms=valid_until_ms, salt=salt)

    def sign_call(self, rollup: str, call: Call, *, valid_until_ms: int, salt: bytes | None = None) -> bytes:
        """Return the payload of any call of a rollup.

        `valid_until_ms` is log time, at most 600,000 after the ordering block. `salt` is 16 bytes: the same
        ones again repeat a payment, which then happens once; without it, random ones.
        """
        return sign_transaction(
            self._key,
            chain=self._chain,
            rollup=RollupId(rollup),
            valid_until_ms=valid_until_ms,
            salt=secrets.token_bytes(transactions.SALT_BYTES) if salt is None else salt,
            call=call,
        )

    def _opens(self, decoded: Terms) -> bool:
        return sha256(self._derive(decoded.salt)).digest() == decoded.hashlock

    def _derive(self, salt: bytes) -> bytes:
        signature = self._key.sign(SIGN_PREIMAGE, self._chain + salt)
        derived = sha256(PREIMAGE + signature).digest()
        assert len(derived) == limits.PREIMAGE_BYTES
        return derived
