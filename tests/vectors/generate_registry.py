"""Makes `registry.json`, `settlement_entries.json`, `receipts.json` and `commitment.json`.

Run as `python -m tests.vectors.generate_registry` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same files; a test insists on that. A case with
`"valid": false` must be refused, for the reason given under `why`.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

from lockstep import block, commitment, genesis, order, receipts, registry, settlement_entries
from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.header import Header, Tip, encode_header, sign_header
from lockstep.registry_entries import (
    Action,
    Drain,
    Leave,
    RegisterRollup,
    RegistryChange,
    RotateAttester,
    RotateKey,
    SetAttesters,
    SetQuota,
    SetRules,
    SignedBy,
    Veto,
    decode_registry_entry,
    sign_change,
)
from lockstep.signing import SigningKey
from lockstep.types import (
    REGISTRY_NAMESPACE,
    ChainId,
    HeaderHash,
    Height,
    Namespace,
    PublicKey,
    RollupId,
    SwapId,
    TransactionId,
)
from tests.vectors.plain import Case, plain

FOLDER: Final = Path(__file__).parent


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        name: json.dumps(vectors, indent=1) + "\n"
        for name, vectors in (
            ("registry.json", registry_vectors()),
            ("settlement_entries.json", settlement_vectors()),
            ("receipts.json", receipt_vectors()),
            ("commitment.json", commitment_vectors()),
        )
    }


def digest_of(text: str) -> bytes:
    """Return 32 bytes that stand for some hash."""
    return sha256(text.encode()).digest()


def key_of(text: str) -> SigningKey:
    """Return the key whose seed is the hash of a name."""
    return SigningKey(digest_of(text))


def damaged(valid: bytes, *damages: tuple[str, int, bytes]) -> list[Case]:
    """Return cases that must be refused: too short, too long, and `(why, offset, bytes written there)`."""
    cases = [
        {"valid": False, "why": "the last byte is missing", "encoded": valid[:-1].hex()},
        {"valid": False, "why": "a byte is left over", "encoded": (valid + b"\x00").hex()},
        {"valid": False, "why": "empty", "encoded": ""},
    ]
    for why, offset, written in damages:
        encoded = valid[:offset] + written + valid[offset + len(written) :]
        cases.append({"valid": False, "why": why, "encoded": encoded.hex()})
    return cases


# --- commitments and state keys -----------------------------------------------------------------------------


def commitment_vectors() -> Case:
    """Return the vectors of `lockstep.commitment`."""
    asset, account, swap_id = b"gold", key_of("alice").public_key, SwapId(digest_of("swap"))
    commitments = [
        _commitment("alpha", 1, 0),
        _commitment("a", 2**63 - 1, 2**64 - 1),
        _commitment("0123456789-abcdefghijklmnopqrstuv", 77, 1_000_000),
    ]
    value, seen = None, []
    for number in range(3):
        transaction_id = TransactionId(digest_of(f"transaction {number}"))
        value = commitment.seen_hash(value, transaction_id)
        seen.append({"transaction_id": transaction_id.hex(), "value": value.hex()})
    return {
        "about": "commitments, keys and values of a rollup's state; `seen` is a chain of hashes",
        "commitments": [
            {
                **plain(each),
                "encoded": commitment.encode_commitment(each).hex(),
                "hash": commitment.commitment_hash(each).hex(),
            }
            for each in commitments
        ],
        "state_keys": {
            "asset": asset.hex(),
            "account": account.hex(),
            "swap_id": swap_id.hex(),
            "leg": 3,
            "second": str(1_700_000_030),
            "balance": commitment.balance_key(asset, account).hex(),
            "escrow": commitment.escrow_key(swap_id, 3).hex(),
            "open_locks": commitment.open_locks_key(account).hex(),
            "seen": commitment.seen_key(1_700_000_030).hex(),
            "supply": commitment.supply_key(asset).hex(),
        },
        "seen": seen,
        "escrow_records": _escrow_records(),
    }


def _commitment(rollup: str, height: int, receipt_count: int) -> commitment.Commitment:
    return commitment.Commitment(
        rollup=RollupId(rollup),
        height=height,
        state_root=digest_of(f"state {rollup}"),
        receipt_count=receipt_count,
        receipts_root=digest_of(f"receipts {rollup}"),
        register_root=digest_of("register"),
    )


def _escrow_records() -> list[Case]:
    def make(verdict: int, reason: int, amount: int, premium: int) -> bytes:
        record = commitment.EscrowRecord(
            verdict=verdict,
            reason=reason,
            opened_height=17,
            opened_index=4,
            asset=b"gold",
            sender=key_of("alice").public_key,
            amount=amount,
            premium=premium,
        )
        return commitment.encode_escrow_record(record)

    locked, rejected = commitment.LOCKED, commitment.REJECTED
    valid = [make(locked, 0, 1, 0), make(locked, 0, 2**128 - 6, 5), make(rejected, 1, 0, 0)]
    invalid = [
        ("a locked leg has no reason", make(locked, 1, 1, 0)),
        ("a locked leg holds something", make(locked, 0, 0, 0)),
        ("a rejected leg has a reason", make(rejected, 0, 0, 0)),
        ("a rejected leg holds nothing", make(rejected, 1, 1, 0)),
        ("a rejected leg holds no premium", make(rejected, 1, 0, 1)),
        ("amount and premium exceed u128", make(locked, 0, 2**128 - 1, 1)),
        ("the verdict is unknown", make(3, 0, 1, 0)),
    ]
    return [
        {"valid": True, "encoded": each.hex(), **plain(commitment.decode_escrow_record(each))}
        for each in valid
    ] + [
        *({"valid": False, "why": why, "encoded": each.hex()} for why, each in invalid),
        *damaged(valid[0], ("the asset has no name", 14, b"\x00")),
    ]


# --- receipts -----------------------------------------------------------------------------------------------


def receipt_vectors() -> Case:
    """Return the vectors of `lockstep.receipts`."""
    swap_id, alice = SwapId(digest_of("swap")), key_of("alice").public_key
    transaction = receipts.TransactionReceipt(
        height=5,
        index=9,
        subject=TransactionId(digest_of("transaction")),
        code=receipts.ReceiptCode.OK,
        signer=alice,
        method=0x0101,
    )
    failed = receipts.TransactionReceipt(
        height=2**63 - 1,
        index=2**32 - 1,
        subject=TransactionId(digest_of("undecodable")),
        code=receipts.ReceiptCode.MALFORMED,
        signer=PublicKey(bytes(32)),
        method=0,
    )
    settled = receipts.SettledReceipt(
        height=6,
        index=0xFFFFFFFF,
        subject=swap_id,
        code=receipts.SettlementCode.ABORTED,
        leg=1,
        asset=b"gold",
        beneficiary=alice,
        amount=2**128 - 8,
        premium_outcome=receipts.PremiumOutcome.PAID,
        premium=7,
    )
    committed = receipts.SettledReceipt(
        height=6,
        index=2,
        subject=swap_id,
        code=receipts.SettlementCode.COMMITTED,
        leg=15,
        asset=b"g" * 32,
        beneficiary=alice,
        amount=1,
        premium_outcome=receipts.PremiumOutcome.NONE,
        premium=0,
    )
    unbacked = receipts.UnbackedReceipt(height=6, index=2, subject=swap_id, leg=0)
    valid: list[receipts.Receipt] = [transaction, failed, settled, committed, unbacked]
    encoded = {id(each): receipts.encode_receipt(each) for each in valid}
    return {
        "about": "receipts and their leaf hashes; kinds and codes are named in `fields`, amounts are decimal",
        "codes": {code.name: code.value for code in receipts.ReceiptCode},
        "receipts": [
            {
                "valid": True,
                "kind": type(each).__name__,
                "fields": plain(each),
                "encoded": encoded[id(each)].hex(),
                "leaf_hash": receipts.receipt_leaf_hash(encoded[id(each)]).hex(),
            }
            for each in valid
        ]
        + damaged(
            encoded[id(transaction)],
            ("the version is unknown", 0, b"\x02"),
            ("the kind is unknown", 1, b"\x04"),
            ("the code is unknown", 46, b"\x00\x63"),
        )
        + damaged(
            encoded[id(committed)],
            ("the code is unknown", 46, b"\x00\x03"),
            ("the leg does not exist", 48, b"\x10"),
            ("the amount is zero", 48 + 1 + 33 + 32, bytes(16)),
            ("the outcome of the premium is unknown", 48 + 1 + 33 + 32 + 16, b"\x03"),
            ("a premium was returned that there was not", 48 + 1 + 33 + 32 + 16, b"\x01"),
            ("a committed swap's premium is not paid out", 48 + 1 + 33 + 32 + 16, b"\x02" + b"\x01" * 16),
        )
        + damaged(encoded[id(unbacked)], ("the code is unknown", 46, b"\x00\x00")),
    }


# --- entries of the settlement log --------------------------------------------------------------------------


def settlement_vectors() -> Case:
    """Return the vectors of `lockstep.settlement_entries`."""
    chain = ChainId(digest_of("chain"))
    one, other = _proven_header(chain, 9, 1), _proven_header(chain, 9, 2)
    first = settlement_entries.sign_commitment(key_of("attester"), _posted(chain, 16, 0, bytes(32)))
    second = settlement_entries.sign_commitment(
        key_of("attester"), _posted(chain, 32, 16, commitment.commitment_hash(first.posted.commitment))
    )
    registration = sign_change(key_of("governance"), _change(chain, "rules", 1, 40, SetRules(2)))
    header_range = settlement_entries.HeaderRange(Height(5), HeaderHash(digest_of("header 4")), one)
    kinds = settlement_entries.EvidenceKind
    proven = [settlement_entries.encode_proven_header(each) for each in (one, other)]
    entries: list[settlement_entries.SettlementEntry] = [
        settlement_entries.GenesisEntry(chain, "example.org/devnet"),
        header_range,
        settlement_entries.HeaderRange(Height(9), one.header.parent_hash, one),
        first,
        second,
        settlement_entries.Evidence(kinds.HEADERS, *proven),
        settlement_entries.Evidence(kinds.ATTESTATIONS, b"\x01\x02 one", b"\x01\x02 other"),
        settlement_entries.Evidence(
            kinds.COMMITMENTS, *map(settlement_entries.encode_settlement_entry, (first, second))
        ),
        _registration(chain, registration),
    ]
    encoded = [settlement_entries.encode_settlement_entry(each) for each in entries]
    same = settlement_entries.encode_settlement_entry(
        settlement_entries.Evidence(kinds.ATTESTATIONS, b"\x01\x02 one", b"\x01\x02 one")
    )
    head = 2 + 8 + 32
    return {
        "about": "entries of the settlement log; `fields` say what they hold, nested bytes in hex",
        "sequencer": key_of("sequencer").public_key.hex(),
        "entries": [
            {"valid": True, "type": type(entry).__name__, "fields": plain(entry), "encoded": each.hex()}
            for entry, each in zip(entries, encoded, strict=True)
        ]
        + damaged(
            encoded[0],
            ("the version is unknown", 0, b"\x02"),
            ("the type is unknown", 1, b"\x06"),
            ("the origin has a space", 35, b" "),
        )
        + damaged(
            encoded[1],
            ("the range starts above its last header", 2, bytes(7) + b"\x0a"),
            ("the range starts at height 0", 2, bytes(8)),
            ("the first parent of all is the chain", 2, bytes(7) + b"\x01"),
            ("the header has another length", head, b"\x00\x83"),
            ("the proof is of an unknown kind", head + 2 + 132, b"\x02"),
            ("the proof has another length", head + 2 + 132 + 1, b"\x00\x3f"),
        )
        + damaged(encoded[2], ("the only header has another parent", 10, b"\x00"))
        + damaged(
            encoded[3],
            ("the rollup's name cannot be", 2 + 64 + 32 + 1, b"A"),
            ("the first commitment has a previous one", len(encoded[3]) - 1, b"\x01"),
        )
        + damaged(
            encoded[4],
            ("the previous commitment is not below", len(encoded[4]) - 40, bytes(7) + b"\x20"),
            ("the previous commitment is missing", len(encoded[4]) - 32, bytes(32)),
        )
        + damaged(
            encoded[5],
            ("the evidence is of an unknown kind", 2, b"\x05"),
            ("the first statement is no header", 8, b"\x02"),
        )
        + [{"valid": False, "why": "both statements are the same", "encoded": same.hex()}]
        + damaged(
            encoded[8],
            ("the header's data root is another", 4 + 82, b"\x00"),
            ("a namespace's root is another", 4 + 132 + 3 + 64 + 4 + 2 + 1 + 9 + 4, b"\x00"),
            ("the payload is another", len(encoded[8]) - 32 - 1 - 8 - 1, b"\x03"),
            ("the leaf is another", len(encoded[8]) - 32 - 1 - 1, b"\x00"),
            ("there is no such leaf", len(encoded[8]) - 32 - 1 - 1, b"\x02"),
            ("the proof has too many hashes", len(encoded[8]) - 32 - 1, b"\x0f"),
            ("the proof leads to another root", len(encoded[8]) - 1, b"\x00"),
        ),
        "log_entry": {
            "checkpoint": b"example.org/devnet\n".hex(),
            "encoded": settlement_entries.encode_log_entry(b"example.org/devnet\n").hex(),
        },
    }


def _registration(chain: ChainId, change: bytes) -> settlement_entries.Registration:
    """Return the registration of a change that stands in a block behind another entry of `_registry`."""
    transactions = (
        order.Transaction(Namespace("alpha"), b"a transaction"),
        order.Transaction(REGISTRY_NAMESPACE, b"no change"),
        order.Transaction(REGISTRY_NAMESPACE, change),
    )
    hashes = tuple(order.transaction_hash(*each) for each in transactions)
    bundle = block.AdmittedBundle(
        order.bundle_id(chain, 1_700_000_030_000, hashes),
        transactions,
        hashes,
        1_700_000_030_000,
    )
    parent = Tip(chain, Height(11), HeaderHash(digest_of("header 11")), 1_700_000_000_000 + 11 * 250)
    built = block.build_block(parent, 1_700_000_000_000 + 12 * 250, [bundle])
    entries = [order.decode_entry(each) for each in built.entries[REGISTRY_NAMESPACE]]
    signature = sign_header(key_of("sequencer"), built.header_bytes)
    _, registration = settlement_entries.registrations_of(
        settlement_entries.ProvenHeader(built.header_bytes, signature),
        order.decode_namespace_leaves(built.leaves_bytes),
        entries,
    )
    return registration


def _proven_header(chain: ChainId, height: int, salt: int) -> settlement_entries.ProvenHeader:
    header = Header(
        chain=chain,
        height=Height(height),
        parent_hash=HeaderHash(digest_of(f"header {height - 1}")),
        time_ms=1_700_000_000_000 + height * 250,
        data_root=digest_of(f"data {salt}"),
        namespace_count=1,
        bundle_count=salt,
        transaction_count=salt,
        payload_bytes=100 * salt,
    )
    encoded = encode_header(header)
    return settlement_entries.ProvenHeader(encoded, sign_header(key_of("sequencer"), encoded))


def _posted(
    chain: ChainId, height: int, previous_height: int, previous: bytes
) -> settlement_entries.PostedCommitment:
    return settlement_entries.PostedCommitment(
        chain=chain,
        attester=key_of("attester").public_key,
        header_hash=HeaderHash(digest_of(f"header {height}")),
        commitment=_commitment("alpha", height, height * 3),
        previous_height=previous_height,
        previous_commitment=previous,
    )


# --- the registry -------------------------------------------------------------------------------------------


def _change(chain: ChainId, subject: str, sequence: int, height: int, action: Action) -> RegistryChange:
    return RegistryChange(chain, subject, sequence, Height(height), action)


def registry_genesis() -> bytes:
    """Return the genesis file under the registry's vectors."""
    keys = {
        name: key_of(name).public_key for name in ("sequencer", "settlement", "governance", "a1", "a2", "a3")
    }
    bank = genesis.BankModule((genesis.Asset("gold", 6, 0, (Allocation(keys["a1"], 10**9),)),))
    return genesis.encode_genesis(
        name="vectors",
        genesis_time_ms=1_700_000_000_000,
        sequencer=keys["sequencer"],
        settlement=genesis.Settlement("example.org/vectors", keys["settlement"]),
        governance=keys["governance"],
        rotation_delay_blocks=5,
        rollups=(
            genesis.RollupDefinition(
                id=RollupId("alpha"),
                attesters=AttesterSet(2, (keys["a1"], keys["a2"], keys["a3"])),
                modules=genesis.Modules(bank, genesis.EscrowModule()),
                quota=genesis.Quota(100, 100_000),
            ),
        ),
    )


def registry_vectors() -> Case:
    """Return the vectors of the registry: its entries, and a history with the digest after each block."""
    raw = registry_genesis()
    chain = genesis.parse_genesis(raw).chain_id
    entries = _registry_entries(chain)
    valid = entries[0][1]
    return {
        "about": (
            "entries of `_registry`, and a history: after each block, what became of changes and the digest; "
            "blocks without entries and effects are left out"
        ),
        "genesis": raw.decode(),
        "chain_id": chain.hex(),
        "attesters_hash": genesis.parse_genesis(raw).rollups[0].attesters.hash.hex(),
        "entries": [
            {
                "valid": True,
                "name": name,
                "fields": plain(decode_registry_entry(payload)),
                "encoded": payload.hex(),
            }
            for name, payload in entries
        ]
        + damaged(
            valid,
            ("the version is unknown", 0, b"\x02"),
            ("the signer is unknown", 1, b"\x03"),
            ("the kind is unknown", 66 + 32, b"\x0a"),
            ("the subject is no rollup", 66 + 33 + 1, b"_"),
            ("the sequence is zero", 66 + 33 + 5, bytes(8)),
            ("the effective height is zero", 66 + 33 + 5 + 8, bytes(8)),
        )
        + _invalid_entries(chain),
        "history": {"initial": _digest_of_genesis(raw), "blocks": _history(raw, chain)},
    }


def _digest_of_genesis(raw: bytes) -> str:
    return registry.Registry.from_genesis(genesis.parse_genesis(raw)).digest.hex()


def _beta() -> bytes:
    definition = genesis.RollupDefinition(RollupId("beta"), AttesterSet(1, (key_of("b1").public_key,)))
    return genesis.encode_rollup_definition(definition)


def _registry_entries(chain: ChainId) -> list[tuple[str, bytes]]:
    governance = key_of("governance")
    a4, a1 = key_of("a4").public_key, key_of("a1").public_key
    changes: list[tuple[str, Action]] = [
        ("beta", RegisterRollup(_beta())),
        ("alpha", SetAttesters(AttesterSet(1, (a4,)))),
        ("alpha", Drain()),
        ("alpha", Leave()),
        ("sequencer", RotateKey(a4)),
        ("alpha", RotateAttester(a1, a4)),
        ("sequencer", Veto(1)),
        ("rules", SetRules(2)),
        ("alpha", SetQuota(genesis.Quota(5, 7))),
        ("alpha", SetQuota(None)),
    ]
    named = [
        (type(action).__name__, sign_change(governance, _change(chain, subject, 1, 10, action)))
        for subject, action in changes
    ]
    own = _change(chain, "alpha", 1, 10, RotateAttester(a1, a4))
    return [*named, ("RotateAttester", sign_change(key_of("a1"), own, SignedBy.SUBJECT))]


def _invalid_entries(chain: ChainId) -> list[Case]:
    head = b"\x01\x01" + bytes(64) + chain

    def entry(kind: int, subject: bytes, content: bytes) -> str:
        place = (1).to_bytes(8, "big") + (10).to_bytes(8, "big")
        return (head + bytes((kind, len(subject))) + subject + place + content).hex()

    cases = [
        ("a role's name cannot be a rollup's", entry(3, b"sequencer", b"")),
        ("`rules` cannot be a rollup's name", entry(3, b"rules", b"")),
        ("a rollup is no role", entry(5, b"alpha", bytes(32))),
        ("rules have one subject", entry(8, b"alpha", b"\x00\x02")),
        ("a set has a key", entry(2, b"alpha", b"\x00\x00")),
        ("a set has at most 16 keys", entry(2, b"alpha", b"\x09\x11" + bytes(17 * 32))),
        ("a definition is not empty", entry(1, b"beta", bytes(4))),
        ("a quota has both parts", entry(9, b"alpha", bytes(4) + b"\x00\x00\x00\x01")),
        ("a subject is not empty", entry(3, b"", b"")),
        ("a subject has at most 32 bytes", entry(3, b"a" * 33, b"")),
    ]
    return [{"valid": False, "why": why, "encoded": encoded} for why, encoded in cases]


def _history(raw: bytes, chain: ChainId) -> list[Case]:
    """Return a history in which every kind of change is accepted once, and some are not."""
    governance, a1, a2 = key_of("governance"), key_of("a1"), key_of("a2")
    second, new_sequencer = key_of("governance 2"), key_of("sequencer 2").public_key
    a4, a5, b2 = (key_of(name).public_key for name in ("a4", "a5", "b2"))
    day_ms, start_ms = 86_400_000, 1_700_000_000_000

    def signed(
        subject: str, sequence: int, height: int, action: Action, key: SigningKey = governance
    ) -> bytes:
        own = SignedBy.SUBJECT if key in (a1, a2) else SignedBy.GOVERNANCE
        return sign_change(key, _change(chain, subject, sequence, height, action), own)

    rotate_a1, rotate_a2 = RotateAttester(a1.public_key, a4), RotateAttester(a2.public_key, a5)
    blocks: list[tuple[int, int, list[bytes]]] = [
        (1, start_ms + 1, [signed("beta", 1, 3, RegisterRollup(_beta())), signed("beta", 1, 3, Drain())]),
        (
            2,
            start_ms + 2,
            [b"\x01 no entry", signed("alpha", 1, 2, Drain()), signed("rules", 1, 4, SetRules(2))],
        ),
        (3, start_ms + 3, [signed("alpha", 1, 7, rotate_a1, a1), signed("alpha", 1, 8, rotate_a1, a1)]),
        (4, start_ms + 4, [signed("alpha", 2, 9, Veto(1)), signed("alpha", 3, 9, rotate_a2, a2)]),
        (5, start_ms + 5, [signed("beta", 2, 6, SetAttesters(AttesterSet(1, (b2,))))]),
        (6, start_ms + 6, [signed("beta", 3, 7, SetQuota(genesis.Quota(5, 7)))]),
        (7, start_ms + 7, [signed("governance", 1, 8, RotateKey(second.public_key))]),
        (8, start_ms + 8, [signed("beta", 4, 9, Drain()), signed("beta", 4, 9, Drain(), second)]),
        (9, start_ms + 9, [signed("sequencer", 1, 10, RotateKey(new_sequencer), second)]),
        (10, start_ms + 10, [signed("beta", 5, 11, Leave(), second)]),
        (11, start_ms + 8 + day_ms, []),
        (12, start_ms + 9 + day_ms, []),
    ]
    state, cases = registry.Registry.from_genesis(genesis.parse_genesis(raw)), []
    for height, time_ms, payloads in blocks:
        entries = [(3 * place, payload) for place, payload in enumerate(payloads)]
        state, events = registry.step(state, height=Height(height), time_ms=time_ms, entries=entries)
        cases.append(
            {
                "height": str(height),
                "time_ms": str(time_ms),
                "entries": [{"index": index, "payload": payload.hex()} for index, payload in entries],
                "events": [
                    {"outcome": each.outcome.value, "height": str(each.height), "index": each.index}
                    for each in events
                ],
                "digest": state.digest.hex(),
            }
        )
    return cases


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
