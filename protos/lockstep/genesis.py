"""The genesis file: what a chain is before its first block, and by the hash of its bytes, which chain it is.

Owns the content of the file, and of a rollup's definition, which `_registry` entries carry too; their JSON is
in `lockstep.genesis_schema`. The chain id covers the bytes of the file, which is never re-made to be checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from lockstep import limits
from lockstep.allocations import Allocation, Allocations, read_allocations, write_allocations
from lockstep.attesters import AttesterSet, verify_attesters
from lockstep.errors import Malformed
from lockstep.genesis_schema import (
    ANCHOR_INTERVAL_BLOCKS_DEFAULT,
    AssetFile,
    BankFile,
    EscrowFile,
    GenesisFile,
    KeyFile,
    ModulesFile,
    QuotaFile,
    RollupFile,
    SettlementFile,
    decode_json,
)
from lockstep.hashing import GENESIS, tagged_hash
from lockstep.order import is_rollup_id
from lockstep.signing import is_registrable
from lockstep.types import ChainId, PublicKey, RollupId

__pure__ = True

ROLE_NAMES: Final = ("sequencer", "settlement", "governance")
"""The keys that genesis names, by role; no rollup may be called so."""

RULES_SUBJECT: Final = "rules"
"""The subject of a change of the rules' version; no rollup may be called so."""

RESERVED_IDS: Final = frozenset((*ROLE_NAMES, RULES_SUBJECT))
"""Names that no rollup may have, so that a change's subject has one meaning."""


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset of a rollup's bank."""

    id: str
    """Its name on the rollup: 1..32 characters of `[A-Za-z0-9._-]`."""
    decimals: int
    """How many digits of an amount people write behind the point, 0..38; nothing computes with it."""
    faucet_max: int
    """Base units that anybody may create at once; 0: the asset has no faucet."""
    allocations: Sequence[Allocation]
    """Who has it from the start, each account once; together at most 2^128-1."""


@dataclass(frozen=True, slots=True)
class BankModule:
    """Accounts with balances, and signed transfers between them."""

    assets: tuple[Asset, ...]
    """The rollup's assets, at least one, with distinct ids."""


@dataclass(frozen=True, slots=True)
class EscrowModule:
    """Locks for swaps, and their settlement."""

    minimum_lock: int = 1
    """The least amount that can be locked, in base units of any asset, at least 1."""
    open_locks_per_account_max: int = limits.OPEN_LOCKS_PER_ACCOUNT_DEFAULT
    """How many locks of one account may be open at a time, at least 1."""


@dataclass(frozen=True, slots=True)
class Modules:
    """What a rollup's runtime is composed of. None: the runtime is not ours, or has no such module."""

    bank: BankModule | None = None
    """Accounts and transfers."""
    escrow: EscrowModule | None = None
    """Swaps; only with a bank."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A namespace's share of the order."""

    transactions_per_second: int
    """Transactions per second, 1..2^32-1."""
    bytes_per_second: int
    """Payload bytes per second, 1..2^32-1."""


@dataclass(frozen=True, slots=True)
class RollupDefinition:
    """What a rollup is when it is registered."""

    id: RollupId
    """Its namespace; not the name of a role, nor `rules`."""
    attesters: AttesterSet
    """Who speaks for it at first."""
    modules: Modules = Modules()
    """What its runtime is composed of."""
    quota: Quota | None = None
    """Its share of the order at first; None leaves it to the sequencer's policy."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The settlement log of a chain."""

    origin: str
    """Its name in checkpoints: 1..255 printable ASCII characters without space and plus."""
    public_key: PublicKey
    """The key that signs its checkpoints."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """A chain before its first block."""

    chain_id: ChainId
    """The hash of the file's bytes."""
    name: str
    """What people call the chain: 1..64 printable ASCII characters. Means nothing to any process."""
    genesis_time_ms: int
    """Log time before the first block; by convention Unix time, but log time is a stopwatch."""
    rules_version: int
    """The version of the register's rules that holds from the first block."""
    sequencer: PublicKey
    """The key that signs headers."""
    settlement: Settlement
    """The settlement log."""
    governance: PublicKey
    """The key that signs changes of the registry."""
    rotation_delay_blocks: int
    """How many blocks ahead a key must announce its own replacement, 1..1,000,000."""
    rollups: tuple[RollupDefinition, ...]
    """The rollups that are registered from the start, at most ROLLUPS_MAX, with distinct ids."""
    anchor_interval_blocks: int = ANCHOR_INTERVAL_BLOCKS_DEFAULT
    """Commitments are posted at heights that are multiples of this, at least 1."""


def parse_genesis(raw: bytes) -> Genesis:
    """Parse a genesis file. Raises `Malformed`, naming the place in the file such as `$.rollups[0].id`."""
    what = "genesis file"
    file = decode_json(raw, GenesisFile, what)
    genesis = Genesis(
        chain_id=ChainId(tagged_hash(GENESIS, raw)),
        name=file.name,
        genesis_time_ms=file.genesis_time_ms,
        rules_version=file.rules_version,
        sequencer=PublicKey(bytes.fromhex(file.sequencer.public_key)),
        settlement=Settlement(file.settlement.origin, PublicKey(bytes.fromhex(file.settlement.public_key))),
        governance=PublicKey(bytes.fromhex(file.governance.public_key)),
        rotation_delay_blocks=file.rotation_delay_blocks,
        rollups=tuple(
            _rollup_of(each, what, f"$.rollups[{place}].") for place, each in enumerate(file.rollups)
        ),
        anchor_interval_blocks=file.anchor_interval_blocks,
    )
    _verify_genesis(genesis)
    return genesis


def encode_genesis(
    *,
    name: str,
    genesis_time_ms: int,
    sequencer: PublicKey,
    settlement: Settlement,
    governance: PublicKey,
    rollups: Sequence[RollupDefinition],
    rotation_delay_blocks: int,
    anchor_interval_blocks: int = ANCHOR_INTERVAL_BLOCKS_DEFAULT,
    rules_version: int = 1,
) -> bytes:
    """Return a new file; the same arguments give the same bytes. Raises `Malformed` as parsing it would."""
    file = GenesisFile(
        version=1,
        name=name,
        genesis_time_ms=genesis_time_ms,
        rules_version=rules_version,
        sequencer=KeyFile(sequencer.hex()),
        settlement=SettlementFile(settlement.origin, settlement.public_key.hex()),
        governance=KeyFile(governance.hex()),
        anchor_interval_blocks=anchor_interval_blocks,
        rotation_delay_blocks=rotation_delay_blocks,
        rollups=tuple(map(_file_of, rollups)),
    )
    raw = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    parse_genesis(raw)
    return raw


def parse_rollup_definition(raw: bytes) -> RollupDefinition:
    """Parse the JSON of one rollup, as in REGISTER_ROLLUP. Raises `Malformed`, naming the place."""
    what = "rollup definition"
    definition = _rollup_of(decode_json(raw, RollupFile, what), what, "$.")
    _verify_rollup(definition, what, "$.")
    return definition


def encode_rollup_definition(definition: RollupDefinition) -> bytes:
    """Return the JSON of one rollup for REGISTER_ROLLUP. Raises `Malformed` as parsing it would."""
    raw = msgspec.json.encode(_file_of(definition))
    parse_rollup_definition(raw)
    return raw


# --- what cannot be said in the schema --------------------------------------------------------------------


def _verify_genesis(genesis: Genesis) -> None:
    what = "genesis file"
    keys = (genesis.sequencer, genesis.settlement.public_key, genesis.governance)
    for role, key in zip(ROLE_NAMES, keys, strict=True):
        if not is_registrable(key):
            raise Malformed(
                what=what, field=f"$.{role}.public_key", reason="is not an Ed25519 public key of prime order"
            )
        if keys.count(key) > 1:
            raise Malformed(
                what=what, field=f"$.{role}.public_key", reason="is another role's too; make one for each"
            )
    ids = [rollup.id for rollup in genesis.rollups]
    for position, rollup in enumerate(genesis.rollups):
        if rollup.id in ids[:position]:
            raise Malformed(what=what, field=f"$.rollups[{position}].id", reason="comes twice")
        _verify_rollup(rollup, what, f"$.rollups[{position}].")


def _verify_rollup(definition: RollupDefinition, what: str, prefix: str) -> None:
    if not is_rollup_id(definition.id):
        raise Malformed(what=what, field=f"{prefix}id", reason="does not match [a-z0-9-]{1,32}")
    if definition.id in RESERVED_IDS:
        raise Malformed(what=what, field=f"{prefix}id", reason="is the name of a role, or `rules`")
    verify_attesters(definition.attesters, what, prefix)
    modules = definition.modules
    if modules.escrow is not None and modules.bank is None:
        raise Malformed(what=what, field=f"{prefix}modules.escrow", reason="needs the module bank")
    if modules.escrow is not None and not 1 <= modules.escrow.minimum_lock <= limits.AMOUNT_MAX:
        raise Malformed(
            what=what, field=f"{prefix}modules.escrow.minimum_lock", reason="is outside of 1..2^128-1"
        )
    if modules.bank is not None:
        _verify_assets(modules.bank.assets, what, f"{prefix}modules.bank.assets")


def _verify_assets(assets: Sequence[Asset], what: str, field: str) -> None:
    ids = [asset.id for asset in assets]
    for position, asset in enumerate(assets):
        where = f"{field}[{position}]"
        if asset.id in ids[:position]:
            raise Malformed(what=what, field=f"{where}.id", reason="comes twice")
        if asset.faucet_max > limits.AMOUNT_MAX:
            raise Malformed(what=what, field=f"{where}.faucet_max", reason="is more than 2^128-1")
        if isinstance(asset.allocations, Allocations):
            continue
        seen: set[PublicKey] = set()
        total = 0
        for place, allocation in enumerate(asset.allocations):
            if allocation.account in seen:
                raise Malformed(
                    what=what, field=f"{where}.allocations[{place}].account", reason="comes twice"
                )
            if allocation.amount == 0:
                raise Malformed(what=what, field=f"{where}.allocations[{place}].amount", reason="is zero")
            seen.add(allocation.account)
            total += allocation.amount
        if total > limits.AMOUNT_MAX:
            raise Malformed(what=what, field=f"{where}.allocations", reason="sum up to more than 2^128-1")


# --- from the file and back --------------------------------------------------------------------------------


def _rollup_of(file: RollupFile, what: str, prefix: str) -> RollupDefinition:
    modules, quota, bank = file.modules, file.quota, None
    if modules.bank is not msgspec.UNSET:
        assets = enumerate(modules.bank.assets)
        where = f"{prefix}modules.bank.assets"
        bank = BankModule(tuple(_asset_of(each, what, f"{where}[{place}]") for place, each in assets))
    escrow = None
    if modules.escrow is not msgspec.UNSET:
        escrow = EscrowModule(int(modules.escrow.minimum_lock), modules.escrow.open_locks_per_account_max)
    return RollupDefinition(
        id=RollupId(file.id),
        attesters=AttesterSet(file.threshold, tuple(PublicKey(bytes.fromhex(key)) for key in file.attesters)),
        modules=Modules(bank, escrow),
        quota=None
        if quota is msgspec.UNSET
        else Quota(quota.transactions_per_second, quota.bytes_per_second),
    )


def _asset_of(file: AssetFile, what: str, field: str) -> Asset:
    allocations = read_allocations(file.allocations, what, f"{field}.allocations")
    return Asset(file.id, file.decimals, int(file.faucet_max), allocations)


def _file_of(definition: RollupDefinition) -> RollupFile:
    bank, escrow, quota = definition.modules.bank, definition.modules.escrow, definition.quota
    return RollupFile(
        id=definition.id,
        attesters=tuple(key.hex() for key in definition.attesters.keys),
        threshold=definition.attesters.threshold,
        modules=ModulesFile(
            bank=BankFile(tuple(map(_asset_file_of, bank.assets))) if bank else msgspec.UNSET,
            escrow=EscrowFile(str(escrow.minimum_lock), escrow.open_locks_per_account_max)
            if escrow
            else msgspec.UNSET,
        ),
        quota=QuotaFile(quota.transactions_per_second, quota.bytes_per_second) if quota else msgspec.UNSET,
    )


def _asset_file_of(asset: Asset) -> AssetFile:
    return AssetFile(asset.id, asset.decimals, str(asset.faucet_max), write_allocations(asset.allocations))
