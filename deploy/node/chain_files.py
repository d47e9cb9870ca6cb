"""The two files that a process reads at its start: the chain's genesis and its own private key.

Owns how they are found, checked and refused. Keys are PKCS #8 PEM files of Ed25519, as
`openssl genpkey -algorithm ed25519` makes them, readable by their owner alone.
"""

import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.node.datadir import create_atomically, write_atomically
from deploy.node.failures import SettingsInvalid
from lockstep.errors import Malformed
from lockstep.genesis import Genesis, parse_genesis
from lockstep.signing import SigningKey

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_KEY_FILE: Final = "a key file (openssl genpkey -algorithm ed25519)"


def load_genesis(path: Path) -> tuple[bytes, Genesis]:
    """Return the genesis file's bytes and what they say. Raises SettingsInvalid."""
    raw = _read(path, "the network's genesis file")
    try:
        return raw, parse_genesis(raw)
    except Malformed as error:
        raise SettingsInvalid(
            f"{path}: the genesis file is malformed: {error.field} {error.reason}; use the network's own file"
        ) from error


def load_key(path: Path) -> SigningKey:
    """Return the key in a PEM file. Raises SettingsInvalid, also if others than its owner may read it."""
    encoded = _read(path, _KEY_FILE)
    try:
        key = serialization.load_pem_private_key(encoded, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsInvalid(
            f"{path} holds no private key in PEM without a passphrase; name {_KEY_FILE}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsInvalid(f"{path} holds a key of another kind than Ed25519; make one of that kind")
    if path.stat().st_mode & _OTHERS:
        raise SettingsInvalid(
            f"{path} can be read by others than its owner; chmod 600 it, and replace the key"
        )
    return SigningKey(key.private_bytes_raw())


def save_key(path: Path, seed: bytes) -> SigningKey:
    """Write the key of a 32-byte secret seed to a PEM file, durably, and return it. Raises StorageFailed."""
    write_atomically(path, _encode_key(seed))
    return SigningKey(seed)


def save_new_key(path: Path, seed: bytes) -> SigningKey:
    """As `save_key`, but never over another key. Raises SettingsInvalid if there is a file."""
    try:
        create_atomically(path, _encode_key(seed))
    except FileExistsError:
        raise SettingsInvalid(
            f"{path} is there already; name another file: a key that is overwritten is lost"
        ) from None
    return SigningKey(seed)


def _encode_key(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error.strerror}; name {what}") from error
