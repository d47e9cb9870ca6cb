"""Ed25519: the one signer and the one verifier of all processes (protos/README.md, section 2).

Libraries differ on the edges of Ed25519, and two processes that differ split the order's meaning.
Everything verifies here, by libsodium's strict rule. `verify` releases the interpreter lock, so callers may
run many in threads.
"""

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from lockstep.types import PublicKey, Signature

__pure__ = True

SIGNATURE_BYTES = 64
PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32


class SigningKey:
    """A private key. It never shows itself: not in `repr`, not in logs, not in pickles."""

    __slots__ = ("_secret", "public_key")

    def __init__(self, seed: bytes) -> None:
        """Derive the key pair from 32 secret bytes; ValueError on any other length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a signing key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        public_key, self._secret = crypto_sign_seed_keypair(seed)
        self.public_key = PublicKey(public_key)

    def sign(self, tagged: bytes, body: bytes) -> Signature:
        """Sign `tagged | body`; `tagged` is one of the `SIGN_` constants of `lockstep.hashing`."""
        return self.sign_raw(tagged + body)

    def sign_raw(self, message: bytes) -> Signature:
        """Sign bytes of a foreign format (signed notes) as they are."""
        return Signature(crypto_sign(message, self._secret)[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        """Name the key by its public half."""
        return f"SigningKey({self.public_key.hex()})"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("a signing key is not to be serialised")


def verify(tagged: bytes, public_key: bytes, body: bytes, signature: bytes) -> bool:
    """Answer whether `signature` is `public_key`'s over `tagged | body`. Wrong lengths answer no."""
    return verify_raw(public_key, tagged + body, signature)


def verify_raw(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Answer whether `signature` is `public_key`'s over `message` itself. Wrong lengths answer no."""
    if len(signature) != SIGNATURE_BYTES or len(public_key) != PUBLIC_KEY_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def is_registrable(public_key: bytes) -> bool:
    """Answer whether a key may be registered: canonical, and in the prime-order subgroup."""
    return len(public_key) == PUBLIC_KEY_BYTES and bool(crypto_core_ed25519_is_valid_point(public_key))
