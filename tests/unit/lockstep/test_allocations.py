"""Many accounts are read in one go as they are one by one; what is not regular is named."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.allocations import Allocation, Allocations, read_allocations, write_allocations
from lockstep.errors import Malformed
from lockstep.genesis import (
    Asset,
    BankModule,
    Modules,
    RollupDefinition,
    encode_rollup_definition,
    parse_rollup_definition,
)
from lockstep.limits import AMOUNT_MAX
from lockstep.types import PublicKey, RollupId
from tests.unit.lockstep.test_genesis import BETA

ONE, TWO = PublicKey(b"\x11" * 32), PublicKey(b"\xaa" * 32)

accounts = st.binary(min_size=32, max_size=32).map(PublicKey)
held = st.builds(Allocation, accounts, st.integers(1, AMOUNT_MAX // 8))
allocations = st.lists(held, max_size=8, unique_by=lambda each: each.account)


def read(written: bytes | str) -> Any:  # noqa: ANN401
    raw = written.encode() if isinstance(written, str) else written
    return read_allocations(msgspec.Raw(raw), "file", "$.there")


def text(*pairs: tuple[str, str]) -> str:
    return json.dumps([{"account": account, "amount": amount} for account, amount in pairs])


@given(allocations)
def test_what_is_written_is_read_in_one_go(given: list[Allocation]) -> None:
    found = read_allocations(write_allocations(given), "file", "$")
    assert isinstance(found, Allocations)
    assert found == tuple(given)
    assert tuple(given) == found
    assert hash(found) == hash(tuple(given))
    assert list(found) == given
    assert found[1:] == tuple(given[1:])
    assert [found[place] for place in range(len(found))] == given
    with pytest.raises(IndexError):
        _ = found[len(given)]


@pytest.mark.parametrize(
    "written",
    [
        f'[{{"amount": "5", "account": "{ONE.hex()}"}}]',
        f'[{{"acc\\u006funt": "{ONE.hex()}", "amount": "5"}}]',
        f'[\n{{ "account" : "{ONE.hex()}",\t"amount":"5" }} ]',
    ],
)
def test_other_ways_of_writing_say_the_same(written: str) -> None:
    assert read(written) == (Allocation(ONE, 5),)


@pytest.mark.parametrize(
    ("written", "field"),
    [
        (text((ONE.hex(), "1"), (TWO.hex().upper(), "1")), "$.there[1].account"),
        (text((ONE.hex()[:-2], "1"), (TWO.hex() + "ab", "1")), "$.there[0].account"),
        (text((ONE.hex() + " ", "1")), "$.there[0].account"),
        (text((ONE.hex()[:-2] + " 1", "1")), "$.there[0].account"),
        (text((ONE.hex(), "1"), (TWO.hex(), "01")), "$.there[1].amount"),
        (text((ONE.hex(), "-1")), "$.there[0].amount"),
        (text((ONE.hex(), "1_0")), "$.there[0].amount"),
        (text((ONE.hex(), "x")), "$.there[0].amount"),
        (text((ONE.hex(), "9" * 5_000)), "$.there[0].amount"),
        (f'[{{"account": "{ONE.hex()}"}}]', "$.there[0]"),
        (f'[{{"account": "{ONE.hex()}", "amount": "1", "more": "1"}}]', "$.there[0]"),
        (f'[{{"account": "{ONE.hex()}", "amount": "1", "amount": "1"}}]', "amount"),
        (f'[{{"account": "{ONE.hex()}", "amount": "1", "am\\u006funt": "1"}}]', "amount"),
        ("{}", "$.there"),
    ],
)
def test_a_fault_is_named(written: str, field: str) -> None:
    with pytest.raises(Malformed) as refusal:
        read(written)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(ONE, 1), (ONE, 1)], "comes twice"),
        ([(ONE, 1), (TWO, 0)], "is zero"),
        ([(ONE, 1), (TWO, AMOUNT_MAX)], "sum up to more"),
        ([(ONE, 10**38), (TWO, 3 * 10**38)], "sum up to more"),
    ],
)
def test_what_does_not_hold_is_not_taken_in_one_go(pairs: list[tuple[PublicKey, int]], reason: str) -> None:
    given = tuple(Allocation(*pair) for pair in pairs)
    found = read_allocations(write_allocations(given), "file", "$")
    assert found == given
    assert not isinstance(found, Allocations)
    bank = BankModule((Asset("gold", 0, 0, given),))
    with pytest.raises(Malformed, match=reason):
        encode_rollup_definition(RollupDefinition(RollupId("beta"), BETA.attesters, Modules(bank)))


def test_many_accounts_hide_no_name_that_comes_twice() -> None:
    many = tuple(Allocation(PublicKey(number.to_bytes(32, "big")), 1) for number in range(1, 2_000))
    definition = RollupDefinition(
        RollupId("beta"), BETA.attesters, Modules(BankModule((Asset("gold", 0, 0, many),)))
    )
    raw = encode_rollup_definition(definition)
    assert parse_rollup_definition(raw) == definition
    with pytest.raises(Malformed, match="decimals comes twice"):
        parse_rollup_definition(raw.replace(b'"decimals":0', b'"decimals":0,"decimals":0'))
    with pytest.raises(Malformed, match="allocations comes twice"):
        parse_rollup_definition(raw.replace(b'"allocations":', b'"allocations":[],"allocations":'))
    with pytest.raises(Malformed, match="amount comes twice"):
        parse_rollup_definition(raw.replace(b'"amount":"1"}', b'"amount":"1","amount":"1"}', 1))
