"""The genesis file: one reading, precise refusals, and the hash of its very bytes."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.errors import Malformed
from lockstep.genesis import (
    Asset,
    BankModule,
    EscrowModule,
    Modules,
    Quota,
    RollupDefinition,
    Settlement,
    encode_genesis,
    encode_rollup_definition,
    parse_genesis,
    parse_rollup_definition,
)
from lockstep.signing import SigningKey
from lockstep.types import PublicKey, RollupId

KEYS = tuple(SigningKey(bytes([number]) * 32).public_key for number in range(1, 21))
SEQUENCER, SETTLEMENT, GOVERNANCE, ALICE, BOB = KEYS[:5]

GOLD = Asset("gold", 6, 0, (Allocation(ALICE, 1_000_000), Allocation(BOB, 2**128 - 1 - 1_000_000)))
ALPHA = RollupDefinition(
    id=RollupId("alpha"),
    attesters=AttesterSet(2, KEYS[5:8]),
    modules=Modules(BankModule((GOLD, Asset("silver", 0, 50, ()))), EscrowModule(10, 3)),
    quota=Quota(1_000, 1_000_000),
)
BETA = RollupDefinition(RollupId("beta"), AttesterSet(1, KEYS[8:9]))


Json: TypeAlias = "int | float | str | list[Json] | dict[str, Json] | None"


def make(**changes: object) -> bytes:
    arguments: dict[str, Any] = {
        "name": "devnet",
        "genesis_time_ms": 1_700_000_000_000,
        "sequencer": SEQUENCER,
        "settlement": Settlement("example.org/devnet", SETTLEMENT),
        "governance": GOVERNANCE,
        "rollups": (ALPHA, BETA),
        "rotation_delay_blocks": 100,
    }
    return encode_genesis(**(arguments | changes))


def test_a_file_says_what_was_put_into_it() -> None:
    raw = make(anchor_interval_blocks=8)
    genesis = parse_genesis(raw)
    assert genesis.chain_id == sha256(b"lockstep/v1/genesis\x00" + raw).digest()
    assert (genesis.sequencer, genesis.settlement.public_key, genesis.governance) == KEYS[:3]
    assert genesis.settlement.origin == "example.org/devnet"
    assert (genesis.name, genesis.genesis_time_ms, genesis.rules_version) == ("devnet", 1_700_000_000_000, 1)
    assert (genesis.anchor_interval_blocks, genesis.rotation_delay_blocks) == (8, 100)
    assert genesis.rollups == (ALPHA, BETA)
    assert make(anchor_interval_blocks=8) == raw


def test_every_byte_makes_another_chain() -> None:
    raw = make()
    assert parse_genesis(raw).chain_id != parse_genesis(raw + b"\n").chain_id


def test_what_may_be_left_out() -> None:
    file = json.loads(make())
    del file["anchor_interval_blocks"]
    del file["rollups"][0]["quota"]
    del file["rollups"][0]["modules"]["bank"]["assets"][0]["faucet_max"]
    del file["rollups"][0]["modules"]["bank"]["assets"][0]["allocations"]
    file["rollups"][0]["modules"]["escrow"] = {}
    genesis = parse_genesis(json.dumps(file).encode())
    assert genesis.anchor_interval_blocks == 16
    alpha = genesis.rollups[0]
    assert alpha.quota is None
    assert alpha.modules.escrow == EscrowModule(minimum_lock=1, open_locks_per_account_max=1_024)
    assert alpha.modules.bank is not None
    assert alpha.modules.bank.assets[0] == Asset("gold", 6, 0, ())


def at(path: str, value: Json) -> Callable[[dict[str, Any]], None]:
    """Return a change of the file: `value` set under a dotted path, or the field removed if it is None."""

    def change(file: dict[str, Any]) -> None:
        node: Any = file
        *parents, last = [int(name) if name.isdigit() else name for name in path.split(".")]
        for parent in parents:
            node = node[parent]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return change


GOLD_PATH = "rollups.0.modules.bank.assets.0"
SMALL_ORDER = bytes(32).hex()


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("version", 2, "$.version"),
        ("version", None, "$"),
        ("extra", 1, "$"),
        ("name", "", "$.name"),
        ("name", "tab\t", "$.name"),
        ("genesis_time_ms", -1, "$.genesis_time_ms"),
        ("genesis_time_ms", 2**53, "$.genesis_time_ms"),
        ("genesis_time_ms", 1.5, "$.genesis_time_ms"),
        ("rules_version", 0, "$.rules_version"),
        ("sequencer.public_key", SEQUENCER.hex().upper(), "$.sequencer.public_key"),
        ("sequencer.public_key", SEQUENCER.hex()[:-2], "$.sequencer.public_key"),
        ("sequencer.public_key", SMALL_ORDER, "$.sequencer.public_key"),
        ("governance.public_key", SEQUENCER.hex(), "$.sequencer.public_key"),
        ("settlement.origin", "two words", "$.settlement.origin"),
        ("settlement.origin", "a+b", "$.settlement.origin"),
        ("settlement.origin", "a\n", "$.settlement.origin"),
        ("settlement.origin", "a" * 256, "$.settlement.origin"),
        ("anchor_interval_blocks", 0, "$.anchor_interval_blocks"),
        ("rotation_delay_blocks", 0, "$.rotation_delay_blocks"),
        ("rotation_delay_blocks", 1_000_001, "$.rotation_delay_blocks"),
        ("rollups.1.id", "alpha", "$.rollups[1].id"),
        ("rollups.1.id", "_swap", "$.rollups[1].id"),
        ("rollups.1.id", "Beta", "$.rollups[1].id"),
        ("rollups.1.id", "beta\n", "$.rollups[1].id"),
        ("rollups.1.id", "b" * 33, "$.rollups[1].id"),
        ("rollups.1.id", "rules", "$.rollups[1].id"),
        ("rollups.1.id", "sequencer", "$.rollups[1].id"),
        ("rollups.0.attesters", [], "$.rollups[0].attesters"),
        ("rollups.0.attesters", [key.hex() for key in KEYS[:17]], "$.rollups[0].attesters"),
        ("rollups.0.attesters.2", KEYS[5].hex(), "$.rollups[0].attesters[2]"),
        ("rollups.0.attesters.1", SMALL_ORDER, "$.rollups[0].attesters[1]"),
        ("rollups.0.threshold", 1, "$.rollups[0].threshold"),
        ("rollups.0.threshold", 4, "$.rollups[0].threshold"),
        ("rollups.0.threshold", 0, "$.rollups[0].threshold"),
        ("rollups.0.modules.bank", None, "$.rollups[0].modules.escrow"),
        ("rollups.0.modules.amm", {}, "$.rollups[0].modules"),
        ("rollups.0.modules.bank.assets", [], "$.rollups[0].modules.bank.assets"),
        ("rollups.0.modules.escrow.minimum_lock", "0", "$.rollups[0].modules.escrow.minimum_lock"),
        ("rollups.0.modules.escrow.minimum_lock", str(2**128), "$.rollups[0].modules.escrow.minimum_lock"),
        (
            "rollups.0.modules.escrow.open_locks_per_account_max",
            0,
            "$.rollups[0].modules.escrow.open_locks_per_account_max",
        ),
        (f"{GOLD_PATH}.id", "silver", "$.rollups[0].modules.bank.assets[1].id"),
        (f"{GOLD_PATH}.id", "a" * 33, "$.rollups[0].modules.bank.assets[0].id"),
        (f"{GOLD_PATH}.id", "", "$.rollups[0].modules.bank.assets[0].id"),
        (f"{GOLD_PATH}.decimals", 39, "$.rollups[0].modules.bank.assets[0].decimals"),
        (f"{GOLD_PATH}.faucet_max", str(2**128), "$.rollups[0].modules.bank.assets[0].faucet_max"),
        (f"{GOLD_PATH}.faucet_max", 5, "$.rollups[0].modules.bank.assets[0].faucet_max"),
        (
            f"{GOLD_PATH}.allocations.0.amount",
            "01",
            "$.rollups[0].modules.bank.assets[0].allocations[0].amount",
        ),
        (
            f"{GOLD_PATH}.allocations.0.amount",
            "-1",
            "$.rollups[0].modules.bank.assets[0].allocations[0].amount",
        ),
        (
            f"{GOLD_PATH}.allocations.0.amount",
            "1\n",
            "$.rollups[0].modules.bank.assets[0].allocations[0].amount",
        ),
        (
            f"{GOLD_PATH}.allocations.0.amount",
            "٣",
            "$.rollups[0].modules.bank.assets[0].allocations[0].amount",
        ),
        (
            f"{GOLD_PATH}.allocations.0.amount",
            "0",
            "$.rollups[0].modules.bank.assets[0].allocations[0].amount",
        ),
        (f"{GOLD_PATH}.allocations.0.amount", "1000001", "$.rollups[0].modules.bank.assets[0].allocations"),
        (
            f"{GOLD_PATH}.allocations.1.account",
            ALICE.hex(),
            "$.rollups[0].modules.bank.assets[0].allocations[1].account",
        ),
        ("rollups.0.quota.bytes_per_second", 0, "$.rollups[0].quota.bytes_per_second"),
    ],
)
def test_a_wrong_file_is_refused_by_name(path: str, value: Json, field: str) -> None:
    file = json.loads(make())
    at(path, value)(file)
    with pytest.raises(Malformed) as refusal:
        parse_genesis(json.dumps(file).encode())
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-3],
        lambda raw: raw + b"{}",
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"devnet", b"dev\xffnet"),
        lambda raw: raw.decode().encode("utf-16"),
        lambda raw: b"[" * 100_000,
    ],
)
def test_what_is_not_json_in_utf8_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        parse_genesis(damage(make()))


def test_a_name_that_comes_twice_is_refused() -> None:
    raw = make().replace(b'"threshold": 2', b'"threshold": 2, "threshold": 2')
    with pytest.raises(Malformed, match="threshold comes twice"):
        parse_genesis(raw)


def test_what_could_not_be_parsed_is_not_encoded() -> None:
    with pytest.raises(Malformed):
        make(rollups=(ALPHA, ALPHA))


amounts = st.integers(1, 2**124)
definitions = st.builds(
    RollupDefinition,
    id=st.from_regex(r"\A[a-z0-9-]{1,32}\Z")
    .filter(lambda name: name not in ("rules", "sequencer"))
    .map(RollupId),
    attesters=st.lists(st.sampled_from(KEYS), min_size=1, max_size=16, unique=True).map(
        lambda keys: AttesterSet(len(keys) // 2 + 1, tuple(keys))
    ),
    modules=st.builds(
        Modules,
        bank=st.builds(
            BankModule,
            assets=st.lists(
                st.builds(
                    Asset,
                    id=st.from_regex(r"\A[A-Za-z0-9._-]{1,32}\Z"),
                    decimals=st.integers(0, 38),
                    faucet_max=st.integers(0, 2**128 - 1),
                    allocations=st.lists(
                        st.builds(
                            Allocation,
                            account=st.binary(min_size=32, max_size=32).map(PublicKey),
                            amount=amounts,
                        ),
                        max_size=4,
                        unique_by=lambda allocation: allocation.account,
                    ).map(tuple),
                ),
                min_size=1,
                max_size=3,
                unique_by=lambda asset: asset.id,
            ).map(tuple),
        ),
        escrow=st.none() | st.builds(EscrowModule, amounts, st.integers(1, 2**32 - 1)),
    ),
    quota=st.none() | st.builds(Quota, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1)),
)


@given(definitions)
def test_definitions_travel(definition: RollupDefinition) -> None:
    assert parse_rollup_definition(encode_rollup_definition(definition)) == definition


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (9, 16), (16, 16)])
def test_majorities_are_accepted(threshold: int, count: int) -> None:
    definition = RollupDefinition(RollupId("a"), AttesterSet(threshold, KEYS[:count]))
    assert parse_rollup_definition(encode_rollup_definition(definition)) == definition


@pytest.mark.parametrize(("threshold", "count"), [(1, 2), (2, 4), (2, 1), (8, 16), (1, 0), (9, 17)])
def test_what_is_no_majority_is_refused(threshold: int, count: int) -> None:
    with pytest.raises(Malformed):
        encode_rollup_definition(RollupDefinition(RollupId("a"), AttesterSet(threshold, KEYS[:count])))


def test_the_hash_of_a_set_covers_threshold_count_and_order() -> None:
    one, other = KEYS[:2]
    expected = sha256(b"lockstep/v1/attesters\x00\x02\x02" + one + other).digest()
    assert AttesterSet(2, (one, other)).hash == expected
    assert AttesterSet(2, (other, one)).hash != expected
