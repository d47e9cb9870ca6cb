"""Makes the golden vectors of trees and checkpoints: `merkle.json`, `merkle_map.json`, `checkpoint.json`.

Run as `python -m tests.vectors.generate_trees` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same files; a test insists on that. Bytes are hex
strings. A case with `"valid": false` must be refused, for the reason given under `why`.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from lockstep import checkpoint, merkle, merkle_map
from lockstep.signing import SigningKey

FOLDER: Final = Path(__file__).parent

# The inputs of the Certificate Transparency reference tests.
REFERENCE_LEAVES: Final = tuple(
    bytes.fromhex(data)
    for data in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
)  # fmt: skip

Case = dict[str, Any]


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        name: json.dumps(vectors, indent=1) + "\n"
        for name, vectors in (
            ("merkle.json", merkle_vectors()),
            ("merkle_map.json", merkle_map_vectors()),
            ("checkpoint.json", checkpoint_vectors()),
        )
    }


# --- RFC 6962 trees -----------------------------------------------------------------------------------------


def merkle_vectors() -> Case:
    """Return the vectors of `lockstep.merkle`."""
    data = [*REFERENCE_LEAVES, *(b"leaf %d" % index for index in range(8, 21))]
    hashes = [merkle.leaf_hash(each) for each in data]
    sizes = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 21)
    return {
        "about": "RFC 6962 trees over SHA-256; roots and frontiers are over the first `size` of `leaves`",
        "leaves": [{"data": d.hex(), "leaf_hash": h.hex()} for d, h in zip(data, hashes, strict=True)],
        "roots": [{"size": size, "root": merkle.root_of(hashes[:size]).hex()} for size in sizes],
        "inclusion": [
            _inclusion(hashes, index, size)
            for size in sizes
            for index in range(size)
            if size <= 8 or index in (0, 1, size // 2, size - 2, size - 1)
        ]
        + _invalid_inclusions(hashes),
        "consistency": [_consistency(hashes, old, new) for new in sizes for old in sizes if old <= new]
        + _invalid_consistencies(hashes),
        "frontiers": [
            {"size": size, "encoded": merkle.Frontier().extend(hashes[:size]).encode().hex(), "valid": True}
            for size in sizes
        ]
        + _invalid_frontiers(hashes),
    }


def _inclusion(hashes: list[bytes], index: int, size: int) -> Case:
    return {
        "leaf_hash": hashes[index].hex(),
        "index": index,
        "size": size,
        "proof": [each.hex() for each in merkle.inclusion_proof(hashes[:size], index)],
        "root": merkle.root_of(hashes[:size]).hex(),
        "valid": True,
    }


def _invalid_inclusions(hashes: list[bytes]) -> list[Case]:
    good = _inclusion(hashes, 4, 7)
    single = _inclusion(hashes, 0, 1)
    return [
        _spoiled(good, "another leaf", leaf_hash=hashes[5].hex()),
        _spoiled(good, "another index", index=5),
        _spoiled(good, "index at the size", index=7),
        _spoiled(good, "a smaller tree", size=6),
        _spoiled(good, "a larger tree", size=9),
        _spoiled(good, "an empty tree", index=0, size=0),
        _spoiled(good, "another root", root=merkle.root_of(hashes[:8]).hex()),
        _spoiled(good, "a proof without its first hash", proof=good["proof"][1:]),
        _spoiled(good, "a proof without its last hash", proof=good["proof"][:-1]),
        _spoiled(good, "a proof with a hash too many", proof=[*good["proof"], hashes[0].hex()]),
        _spoiled(good, "a proof in another order", proof=good["proof"][::-1]),
        _spoiled(good, "a short hash in the proof", proof=[good["proof"][0][:-2], *good["proof"][1:]]),
        _spoiled(good, "a short leaf hash", leaf_hash=good["leaf_hash"][:-2]),
        _spoiled(single, "a proof where none is needed", proof=[hashes[1].hex()]),
        _spoiled(_inclusion(hashes, 1, 2), "a right leaf in a tree too small for its path", index=0, size=1),
        _spoiled(
            _inclusion(hashes, 0, 2),
            "an inner node as a leaf",
            leaf_hash=merkle.root_of(hashes[:2]).hex(),
            proof=[merkle.root_of(hashes[2:4]).hex()],
            root=merkle.root_of(hashes[:4]).hex(),
            size=4,
        ),
    ]


def _consistency(hashes: list[bytes], old: int, new: int) -> Case:
    return {
        "old_size": old,
        "new_size": new,
        "old_root": merkle.root_of(hashes[:old]).hex(),
        "new_root": merkle.root_of(hashes[:new]).hex(),
        "proof": [each.hex() for each in merkle.consistency_proof(hashes[:new], old)],
        "valid": True,
    }


def _invalid_consistencies(hashes: list[bytes]) -> list[Case]:
    good = _consistency(hashes, 6, 13)
    power = _consistency(hashes, 8, 13)
    equal = _consistency(hashes, 6, 6)
    from_empty = _consistency(hashes, 0, 6)
    return [
        _spoiled(good, "another old root", old_root=merkle.root_of(hashes[:7]).hex()),
        _spoiled(good, "another new root", new_root=merkle.root_of(hashes[:16]).hex()),
        _spoiled(good, "another old size", old_size=5),
        _spoiled(good, "another new size", new_size=17),
        _spoiled(good, "sizes the wrong way round", old_size=13, new_size=6),
        _spoiled(good, "an empty proof", proof=[]),
        _spoiled(good, "a proof without its first hash", proof=good["proof"][1:]),
        _spoiled(good, "a proof without its last hash", proof=good["proof"][:-1]),
        _spoiled(good, "a proof with a hash too many", proof=[*good["proof"], hashes[0].hex()]),
        _spoiled(good, "a short hash in the proof", proof=[*good["proof"][:-1], good["proof"][-1][:-2]]),
        _spoiled(_consistency(hashes, 7, 8), "trees too small for the path", old_size=3, new_size=4),
        _spoiled(power, "the old root in the proof", proof=[power["old_root"], *power["proof"]]),
        _spoiled(equal, "a proof between equal trees", proof=[hashes[0].hex()]),
        _spoiled(equal, "two roots of one size", new_root=good["new_root"]),
        _spoiled(from_empty, "a proof from the empty tree", proof=[hashes[0].hex()]),
        _spoiled(from_empty, "a wrong root of the empty tree", old_root="00" * 32),
        _spoiled(
            _consistency(hashes, 0, 0),
            "equal but wrong roots of empty trees",
            old_root="00" * 32,
            new_root="00" * 32,
        ),
    ]


def _invalid_frontiers(hashes: list[bytes]) -> list[Case]:
    encoded = merkle.Frontier().extend(hashes[:5]).encode()
    return [
        {"encoded": spoiled.hex(), "valid": False, "why": why}
        for spoiled, why in (
            (b"", "nothing"),
            (encoded[:7], "an incomplete size"),
            (encoded[:-1], "an incomplete peak"),
            (encoded[:-32], "a peak missing"),
            (encoded + bytes(32), "a peak too many"),
            (encoded + b"\x00", "a byte left over"),
        )
    ]


# --- the map ------------------------------------------------------------------------------------------------


def merkle_map_vectors() -> Case:
    """Return the vectors of `lockstep.merkle_map`."""
    keys = _keys_with_long_paths()
    pairs = {key: b"value of " + key for key in keys}
    return {
        "about": "the map of merkle_map.py: roots by content, roots after updates by hashes, proofs by key",
        "hashes": [
            {
                "key": key.hex(),
                "key_hash": merkle_map.key_hash(key).hex(),
                "value": value.hex(),
                "value_hash": merkle_map.value_hash(value).hex(),
            }
            for key, value in {b"": b"", **dict(list(pairs.items())[:2])}.items()
        ],
        "maps": [_map_case(dict(list(pairs.items())[:count])) for count in (0, 1, 2, 3, 5, len(pairs))],
        "updates": _updates(),
        "proofs": _proofs(pairs),
    }


def _keys_with_long_paths() -> list[bytes]:
    """Return keys, the first two with hashes that agree in 14 bits: their paths have empty siblings."""
    first = b"account 0"
    prefix = int.from_bytes(merkle_map.key_hash(first)[:2], "big") >> 2
    number = 1
    while int.from_bytes(merkle_map.key_hash(b"account %d" % number)[:2], "big") >> 2 != prefix:
        number += 1
    return [first, b"account %d" % number, *(b"key %d" % index for index in range(30))]


def _map_of(pairs: Mapping[bytes, bytes]) -> merkle_map.MerkleMap:
    return merkle_map.MerkleMap().update(
        (merkle_map.key_hash(key), merkle_map.value_hash(value)) for key, value in pairs.items()
    )


def _map_case(pairs: Mapping[bytes, bytes]) -> Case:
    return {
        "pairs": [{"key": key.hex(), "value": value.hex()} for key, value in pairs.items()],
        "root": _map_of(pairs).root.hex(),
    }


def _updates() -> list[Case]:
    """Return one history: changes and the root after them. Two of the keys differ in their last bit only."""
    low, high = bytes(32), bytes(31) + b"\x01"
    half = b"\x80" + bytes(31)
    value = [sha256(b"value %d" % index).digest() for index in range(4)]
    steps: list[list[tuple[bytes, bytes | None]]] = [
        [(low, value[0])],
        [(high, value[1])],
        [(half, value[2])],
        [(low, value[3])],
        [(half, None)],
        [(half, None), (low, None)],
        [(low, value[0]), (high, value[1]), (half, value[2])],
        [(low, None), (high, None), (half, None)],
    ]
    current, cases = merkle_map.MerkleMap(), []
    for step in steps:
        current = current.update(step)
        changes = [{"key_hash": k.hex(), "value_hash": None if v is None else v.hex()} for k, v in step]
        cases.append({"changes": changes, "root": current.root.hex()})
    return cases


def _proofs(pairs: Mapping[bytes, bytes]) -> list[Case]:
    few = dict(list(pairs.items())[:2])
    whole = _map_of(pairs)
    absent = {
        kind: next(
            key for index in range(10_000) if whole.proof(key := b"absent %d" % index).kind is kind
        )
        for kind in (merkle_map.ProofKind.ABSENT_EMPTY, merkle_map.ProofKind.ABSENT_OTHER)
    }  # fmt: skip
    long_path = next(iter(pairs))
    good = [
        _proof({}, b"anything", None),
        _proof(dict(list(pairs.items())[:1]), long_path, pairs[long_path]),
        _proof(dict(list(pairs.items())[:1]), b"anything", None),
        _proof(few, long_path, few[long_path]),
        *(_proof(pairs, key, pairs[key]) for key in list(pairs)[:4]),
        *(_proof(pairs, key, None) for key in absent.values()),
    ]
    return good + _invalid_proofs(pairs, absent)


def _proof(pairs: Mapping[bytes, bytes], key: bytes, value: bytes | None) -> Case:
    current = _map_of(pairs)
    proof = current.proof(key)
    return {
        "root": current.root.hex(),
        "key": key.hex(),
        "value": None if value is None else value.hex(),
        "kind": proof.kind.name,
        "proof": proof.encode().hex(),
        "valid": True,
    }


def _invalid_proofs(pairs: Mapping[bytes, bytes], absent: Mapping[merkle_map.ProofKind, bytes]) -> list[Case]:
    key = list(pairs)[2]
    present = _proof(pairs, key, pairs[key])
    empty = _proof(pairs, absent[merkle_map.ProofKind.ABSENT_EMPTY], None)
    other = _proof(pairs, absent[merkle_map.ProofKind.ABSENT_OTHER], None)
    encoded = bytes.fromhex(present["proof"])
    other_key = merkle_map.MapProof.decode(bytes.fromhex(other["proof"])).other
    assert other_key is not None
    owner = next(each for each in pairs if merkle_map.key_hash(each) == other_key.key_hash)
    return [
        _spoiled(present, "another value", value=b"another".hex()),
        _spoiled(present, "another key", key=b"another".hex()),
        _spoiled(present, "another root", root=_map_of({}).root.hex()),
        _spoiled(present, "a present key called absent", value=None),
        _spoiled(empty, "an absent key called present", value=b"".hex()),
        _spoiled(other, "the disclosed leaf's own key called absent", key=owner.hex()),
        _spoiled(other, "a disclosed leaf that is not on the key's path", key=list(pairs)[2].hex()),
        _spoiled(present, "nothing", proof=""),
        _spoiled(present, "an unknown version", proof=(b"\x02" + encoded[1:]).hex()),
        _spoiled(present, "an unknown kind", proof=(encoded[:1] + b"\x04" + encoded[2:]).hex()),
        _spoiled(present, "kind zero", proof=(encoded[:1] + b"\x00" + encoded[2:]).hex()),
        _spoiled(present, "depth 257", proof=(encoded[:2] + b"\x01\x01" + encoded[4:]).hex()),
        _spoiled(present, "an incomplete sibling", proof=encoded[:-1].hex()),
        _spoiled(present, "a byte left over", proof=(encoded + b"\x00").hex()),
        _spoiled(present, "a leaf left over", proof=(encoded + bytes(64)).hex()),
        _spoiled(
            present,
            "a bit beyond the depth",
            proof=(encoded[:4] + _set_last_bit(encoded[4:5]) + encoded[5:]).hex(),
        ),
        _spoiled(present, "an empty deepest sibling", proof=(encoded[:2] + b"\x00\x01\x00").hex()),
        _spoiled(
            present, "an empty sibling spelled out", proof=(encoded[:2] + b"\x00\x01\x80" + bytes(32)).hex()
        ),
    ]


def _set_last_bit(byte: bytes) -> bytes:
    return bytes((byte[0] | 1,))


# --- checkpoints --------------------------------------------------------------------------------------------


def checkpoint_vectors() -> Case:
    """Return the vectors of `lockstep.checkpoint`."""
    log, witness = SigningKey(bytes(range(32))), SigningKey(bytes(range(32, 64)))
    name = "example.org/settlement"
    root = merkle.root_of([merkle.leaf_hash(data) for data in REFERENCE_LEAVES])
    body = checkpoint.encode_checkpoint(name, len(REFERENCE_LEAVES), root)
    note = checkpoint.sign_note(body, name=name, public_key=log.public_key, sign=log.sign_raw)
    witnessed = note + _signature_line(body, "witness.example.net", witness)
    return {
        "about": "C2SP signed notes and tlog checkpoints; notes and bodies are hex of UTF-8, vkeys are text",
        "keys": [
            {
                "name": n,
                "seed": seed.hex(),
                "public_key": k.public_key.hex(),
                "vkey": checkpoint.vkey(n, k.public_key),
            }
            for n, seed, k in (
                (name, bytes(range(32)), log),
                ("witness.example.net", bytes(range(32, 64)), witness),
            )
        ],
        "invalid_vkeys": _invalid_vkeys(checkpoint.vkey(name, log.public_key)),
        "bodies": [
            _body_case(name, len(REFERENCE_LEAVES), root),
            _body_case("a log with spaces and an \u00fc", 0, merkle.EMPTY_ROOT),
            _body_case(name, 2**64 - 1, bytes(range(32))),
            *_invalid_bodies(name, root),
        ],
        "notes": [
            {
                "note": note.hex(),
                "body": body.hex(),
                "vkey": checkpoint.vkey(name, log.public_key),
                "valid": True,
            },
            {
                "note": witnessed.hex(),
                "body": body.hex(),
                "vkey": checkpoint.vkey(name, log.public_key),
                "valid": True,
            },
            {
                "note": witnessed.hex(),
                "body": body.hex(),
                "vkey": checkpoint.vkey("witness.example.net", witness.public_key),
                "valid": True,
            },
            *_invalid_notes(name, log, witness, body, note),
        ],
    }


def _signature_line(body: bytes, name: str, key: SigningKey) -> bytes:
    note = checkpoint.sign_note(body, name=name, public_key=key.public_key, sign=key.sign_raw)
    return note[len(body) + 1 :]


def _body_case(origin: str, size: int, root: bytes) -> Case:
    body = checkpoint.encode_checkpoint(origin, size, root).hex()
    return {"body": body, "origin": origin, "size": str(size), "root": root.hex(), "valid": True}


def _invalid_vkeys(good: str) -> list[Case]:
    name, key_id, key = good.split("+", 2)
    return [
        {"vkey": spoiled, "why": why}
        for spoiled, why in (
            ("", "nothing"),
            (name, "a name alone"),
            (f"{name}+{key_id}", "no key"),
            (f"other.example+{key_id}+{key}", "a key id of another name"),
            (f"{name}+{key_id.upper()}+{key}", "a key id in capitals"),
            (f"{name}+00000000+{key}", "a wrong key id"),
            (f"{name}+{key_id}+{key[:-4]}", "a short key"),
            (f"{name}+{key_id}+{key} ", "a space at the end"),
            (f"{name}+{key_id}+B{key[1:]}", "another algorithm"),
            (f"two words+{key_id}+{key}", "a name with a space"),
            (f"+{key_id}+{key}", "an empty name"),
        )
    ]


def _invalid_bodies(name: str, root: bytes) -> list[Case]:
    good = checkpoint.encode_checkpoint(name, 8, root)
    origin, size, spelled, _ = good.split(b"\n")
    return [
        {"body": spoiled.hex(), "valid": False, "why": why}
        for spoiled, why in (
            (b"", "nothing"),
            (good[:-1], "no newline at the end"),
            (good + b"extension\n", "an extension line"),
            (good + b"\n", "an empty line more"),
            (good.replace(b"\n", b"\r\n"), "carriage returns"),
            (b"\n" + size + b"\n" + spelled + b"\n", "an empty origin"),
            (b"o" * 256 + b"\n" + size + b"\n" + spelled + b"\n", "an origin of 256 bytes"),
            (b"\xff\n" + size + b"\n" + spelled + b"\n", "an origin that is not UTF-8"),
            (b"a\tb\n" + size + b"\n" + spelled + b"\n", "a control character"),
            (origin + b"\n08\n" + spelled + b"\n", "a leading zero"),
            (origin + b"\n+8\n" + spelled + b"\n", "a sign"),
            (origin + b"\n8 \n" + spelled + b"\n", "a space after the size"),
            (origin + b"\n\n" + spelled + b"\n", "an empty size"),
            (origin + "\n\u0668\n".encode() + spelled + b"\n", "a digit of another script"),
            (origin + b"\n18446744073709551616\n" + spelled + b"\n", "a size of 2^64"),
            (origin + b"\n8\n" + spelled[:-1] + b"\n", "base64 without padding"),
            (origin + b"\n8\n" + _next_letter(spelled, -2) + b"\n", "base64 with unused bits set"),
            (origin + b"\n8\n" + spelled[:-4] + b"\n", "a short root"),
            (origin + b"\n8\n " + spelled + b"\n", "a space before the root"),
        )
    ]


def _next_letter(spelled: bytes, place: int) -> bytes:
    """Return base64 with the letter at `place` replaced by the next, which has its lowest bit set."""
    changed = bytearray(spelled)
    changed[place] += 1
    return bytes(changed)


def _invalid_notes(name: str, log: SigningKey, witness: SigningKey, body: bytes, note: bytes) -> list[Case]:
    line = _signature_line(body, name, log)
    foreign = _signature_line(body, "witness.example.net", witness)
    forged = checkpoint.sign_note(body, name=name, public_key=log.public_key, sign=witness.sign_raw)
    other_body = checkpoint.encode_checkpoint(name, 9, bytes(32))
    other_origin = checkpoint.encode_checkpoint("other.example", 8, bytes(32))
    mislabelled = checkpoint.sign_note(other_origin, name=name, public_key=log.public_key, sign=log.sign_raw)
    return [
        {"note": spoiled.hex(), "vkey": checkpoint.vkey(name, log.public_key), "valid": False, "why": why}
        for spoiled, why in (
            (b"", "nothing"),
            (body, "no signature"),
            (body + b"\n", "no signature line"),
            (body + b"\n" + foreign, "signed by another key only"),
            (other_body + b"\n" + line, "another body"),
            (forged, "a known key's signature that is wrong"),
            (note + forged[len(body) + 1 :], "a right and a wrong signature of the known key"),
            (mislabelled, "the checkpoint of another origin"),
            (note[:-1], "no newline at the end"),
            (note + b"\n", "an empty line at the end"),
            (note + b"text\n", "a line that is not a signature"),
            (body + line, "no empty line"),
            (note.replace(b"\xe2\x80\x94", b"-"), "a hyphen for the dash"),
            (note.replace(b"\xe2\x80\x94 ", b"\xe2\x80\x94"), "no space after the dash"),
            (note.replace(b"\n", b"\r\n"), "carriage returns"),
            (note[:-2] + b"\n", "base64 that is cut"),
            (body + f"\n\u2014 {name} AAAAAA==\n".encode(), "a key id without a signature"),
            (note + b"\xe2\x80\x94 two+words AAAAAAAA\n", "a name with a plus sign"),
            (body + b"\n" + line + foreign * 16, "17 signatures"),
            (b"\xff" + note, "bytes that are not UTF-8"),
        )
    ]


def _spoiled(good: Case, why: str, **changes: object) -> Case:
    spoiled = {**good, **changes, "valid": False, "why": why}
    assert any(spoiled[name] != good[name] for name in changes), why
    return spoiled


if __name__ == "__main__":
    for file_name, text in render().items():
        (FOLDER / file_name).write_text(text)
