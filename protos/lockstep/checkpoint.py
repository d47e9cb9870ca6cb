"""Checkpoints of the settlement log: signed statements "this log has so many entries under this root".

Owns two formats of the transparency-log world, so that its tools can check our log: the signed note
(https://c2sp.org/signed-note) with Ed25519 keys, and the checkpoint inside it
(https://c2sp.org/tlog-checkpoint). Invariant: a note that verifies was signed over exactly the body returned,
and a body that parses is the one `encode_checkpoint` makes of the result.

    example.org/settlement                               origin
    20852163                                             size
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=         root
                                                         (empty; the signature covers what is above)
    — example.org/settlement Az3grlgtzPICa5OS8npVmf...   name, base64(key id | signature)

Stricter than the formats ask: a body has no extension lines, and base64 has one spelling. Signatures of keys
that the reader does not know are ignored, so that witnesses can add theirs. Whether the size and root extend
an earlier checkpoint is not decided here: see `lockstep.merkle.verify_consistency`.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from lockstep.errors import BadSignature, Malformed
from lockstep.types import PublicKey

__pure__ = True

Verify = Callable[[bytes, bytes, bytes], bool]
"""`(public key, message, signature)`: answers whether the signature holds; `lockstep.signing.verify_raw`."""

ALGORITHM_ED25519: Final = b"\x01"
KEY_ID_BYTES: Final = 4
PUBLIC_KEY_BYTES: Final = 32
ROOT_BYTES: Final = 32
SIZE_MAX: Final = 2**64 - 1
NOTE_BYTES_MAX: Final = 64 * 1024
SIGNATURES_MAX: Final = 16
"""Signatures of one note."""

NAME_BYTES_MAX: Final = 255
"""Bytes of a key's name and of an origin, in UTF-8."""

_SIGNATURE_PREFIX: Final = "\N{EM DASH} "
_SIZE: Final = re.compile("0|[1-9][0-9]{0,19}")
_KEY_ID: Final = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself."""

    origin: str
    """The log's name; checkpoints of different origins never speak of the same log."""

    size: int
    """Entries of the log, 0..2^64-1."""

    root: bytes
    """The RFC 6962 root over the entries, 32 bytes."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not verified."""

    name: str
    """The name of the key, as claimed."""

    key_id: bytes
    """The first 4 bytes of a hash over name and key: a hint which key to verify with."""

    signature: bytes
    """The rest, in the form of the key's algorithm: at least 1 byte."""


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note, taken apart but not verified."""

    body: bytes
    """The signed text: UTF-8, ends with a newline."""

    signatures: tuple[NoteSignature, ...]
    """1..16 signatures in order."""


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A known key."""

    name: str
    """Its name: not empty, without spaces and plus signs."""

    public_key: PublicKey
    """32 bytes, Ed25519."""

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that signatures of this key carry."""
        return key_id(self.name, self.public_key)

    @classmethod
    def from_vkey(cls, encoded: str) -> "NoteVerifier":
        """Read the string that `vkey` makes. Raises Malformed, also for keys that are not Ed25519 keys."""
        name, _, hash_and_key = encoded.partition("+")
        claimed_id, _, spelled_key = hash_and_key.partition("+")
        typed_key = _decode_base64("verifier key", "key", spelled_key)
        if len(typed_key) != 1 + PUBLIC_KEY_BYTES or typed_key[:1] != ALGORITHM_ED25519:
            raise Malformed(what="verifier key", field="key", reason="is not an Ed25519 key of 32 bytes")
        _require_name("verifier key", name)
        verifier = cls(name, PublicKey(typed_key[1:]))
        if not _KEY_ID.fullmatch(claimed_id) or bytes.fromhex(claimed_id) != verifier.key_id:
            raise Malformed(what="verifier key", field="key id", reason="is not the one of this name and key")
        return verifier


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the first 4 bytes of `SHA-256(name | newline | 0x01 | public key)`."""
    return sha256(name.encode() + b"\n" + ALGORITHM_ED25519 + public_key).digest()[:KEY_ID_BYTES]


def vkey(name: str, public_key: bytes) -> str:
    """Return `name+key id in hex+base64(0x01 | public key)`, by which a log's key is published.

    Raises Malformed for a name that notes cannot carry, ValueError for a key that is not 32 bytes long.
    """
    _require_name("verifier key", name)
    _require_public_key(public_key)
    return f"{name}+{key_id(name, public_key).hex()}+{_encode_base64(ALGORITHM_ED25519 + public_key)}"


def encode_checkpoint(origin: str, size: int, root: bytes) -> bytes:
    """Return the body of a checkpoint. Raises ValueError for what `parse_checkpoint` would refuse."""
    body = f"{origin}\n{size}\n{_encode_base64(root)}\n".encode()
    try:
        parse_checkpoint(body)
    except Malformed as error:
        raise ValueError(f"this cannot be a checkpoint: {error}") from error
    return body


def parse_checkpoint(body: bytes) -> Checkpoint:
    """Read the body of a checkpoint, without any claim about who signed it. Raises Malformed."""
    lines = _decode_text("checkpoint", body).split("\n")
    if len(lines) != 4 or lines[3]:
        raise Malformed(what="checkpoint", field="lines", reason="must be origin, size and root, each ended")
    origin, size, root = lines[:3]
    if not origin or len(origin.encode()) > NAME_BYTES_MAX:
        raise Malformed(what="checkpoint", field="origin", reason=f"must have 1 to {NAME_BYTES_MAX} bytes")
    if not _SIZE.fullmatch(size) or int(size) > SIZE_MAX:
        raise Malformed(
            what="checkpoint", field="size", reason="must be decimal, without leading zeros, below 2^64"
        )
    decoded_root = _decode_base64("checkpoint", "root", root)
    if len(decoded_root) != ROOT_BYTES:
        raise Malformed(
            what="checkpoint", field="root", reason=f"has {len(decoded_root)} bytes, not {ROOT_BYTES}"
        )
    return Checkpoint(origin, int(size), decoded_root)


def sign_note(body: bytes, *, name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the note over `body` with one signature, made by `sign` with the private half of `public_key`.

    Raises Malformed for a body or a name that a note cannot carry, ValueError for a key that is not 32 bytes
    long.
    """
    _require_body(body)
    _require_name("signed note", name)
    _require_public_key(public_key)
    signature = _encode_base64(key_id(name, public_key) + sign(body))
    note = body + f"\n{_SIGNATURE_PREFIX}{name} {signature}\n".encode()
    if len(note) > NOTE_BYTES_MAX:
        raise Malformed(what="signed note", field="size", reason=f"is more than {NOTE_BYTES_MAX} bytes")
    return note


def parse_note(note: bytes) -> Note:
    """Take a note apart, without verifying a signature. Raises Malformed."""
    if len(note) > NOTE_BYTES_MAX:
        raise Malformed(what="signed note", field="size", reason=f"is more than {NOTE_BYTES_MAX} bytes")
    text = _decode_text("signed note", note)
    # The last empty line divides: a body may have empty lines, signatures may not.
    body, divider, signatures = text.rpartition("\n\n")
    if not divider or not signatures.endswith("\n"):
        raise Malformed(
            what="signed note", field="lines", reason="must be a body, an empty line, signature lines"
        )
    lines = signatures[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise Malformed(what="signed note", field="signatures", reason=f"are more than {SIGNATURES_MAX}")
    return Note(body=(body + "\n").encode(), signatures=tuple(_parse_signature(line) for line in lines))


def verify_note(note: bytes, verifier: NoteVerifier, *, verify: Verify) -> bytes:
    """Verify that a note is signed by a known key and return its body.

    1. The note has the form of one (Malformed).
    2. At least one signature names the known key, by name and key id (BadSignature).
    3. Every signature that names it is right (BadSignature). Others are ignored.
    """
    parsed = parse_note(note)
    known = [
        each for each in parsed.signatures if (each.name, each.key_id) == (verifier.name, verifier.key_id)
    ]
    if not known or not all(verify(verifier.public_key, parsed.body, each.signature) for each in known):
        raise BadSignature(what="signed note", signer=verifier.public_key.hex())
    return parsed.body


def verify_checkpoint(note: bytes, verifier: NoteVerifier, *, verify: Verify) -> Checkpoint:
    """Verify that a note is a log's checkpoint, signed by the log's own key, and return what it says.

    1. The note verifies (`verify_note`).
    2. Its body is a checkpoint (Malformed).
    3. The checkpoint's origin is the name of the key (Malformed): a key speaks for its own log only.
    """
    checkpoint = parse_checkpoint(verify_note(note, verifier, verify=verify))
    if checkpoint.origin != verifier.name:
        raise Malformed(what="checkpoint", field="origin", reason=f"is not that of the log {verifier.name}")
    return checkpoint


def _parse_signature(line: str) -> NoteSignature:
    if not line.startswith(_SIGNATURE_PREFIX):
        raise Malformed(
            what="signed note", field="signatures", reason="must each begin with an em dash and a space"
        )
    name, _, spelled = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    _require_name("signed note", name)
    decoded = _decode_base64("signed note", "signatures", spelled)
    if len(decoded) <= KEY_ID_BYTES:
        raise Malformed(
            what="signed note", field="signatures", reason="must each hold a key id and a signature"
        )
    return NoteSignature(name=name, key_id=decoded[:KEY_ID_BYTES], signature=decoded[KEY_ID_BYTES:])


def _require_body(body: bytes) -> None:
    if not _decode_text("signed note", body).endswith("\n"):
        raise Malformed(what="signed note", field="body", reason="must end with a newline")


def _require_name(what: str, name: str) -> None:
    """Insist on a key's name as the signed-note format has it, and on its length."""
    _decode_text(what, name.encode("utf-8", "surrogatepass"))
    if not name or "+" in name or any(character.isspace() for character in name):
        raise Malformed(what=what, field="name", reason="must not be empty or have spaces or plus signs")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise Malformed(what=what, field="name", reason=f"is longer than {NAME_BYTES_MAX} bytes")


def _require_public_key(public_key: bytes) -> None:
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}")


def _decode_text(what: str, encoded: bytes) -> str:
    """Read UTF-8 without control characters but newlines, as the signed-note format asks."""
    try:
        text = encoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(what=what, field="text", reason=f"is not UTF-8 at byte {error.start}") from error
    if any(character < " " and character != "\n" for character in text):
        raise Malformed(what=what, field="text", reason="has control characters")
    return text


def _encode_base64(decoded: bytes) -> str:
    return b64encode(decoded).decode("ascii")


def _decode_base64(what: str, field: str, spelled: str) -> bytes:
    """Read standard base64 in its only canonical spelling: padded, no unused bit set."""
    try:
        decoded = b64decode(spelled, validate=True)
    except (Base64Error, ValueError) as error:
        raise Malformed(what=what, field=field, reason="is not base64") from error
    if _encode_base64(decoded) != spelled:
        raise Malformed(what=what, field=field, reason="is base64 in another than the canonical spelling")
    return decoded
