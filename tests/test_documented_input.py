"""The tables of bad input are current and whole."""

from collections import Counter

import pytest

from lockstep.errors import all_errors
from lockstep.v1 import bridge_pb2, rollup_pb2, sequencer_pb2, settlement_pb2
from tests.documented import PAGE
from tests.documented_input import TABLES, bad_input_table, place_of
from tests.integration.bad_input import CASES

SERVICES = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (sequencer_pb2, "Sequencer"),
        (rollup_pb2, "Rollup"),
        (settlement_pb2, "Settlement"),
        (bridge_pb2, "Bridge"),
    )
]

OF_GRPC = {"RESOURCE_EXHAUSTED"}
"""Codes that stand for a status without our details."""

NOTHING_TO_GET_WRONG = {"GetStatus", "GetGenesis", "GetCheckpoint"}
"""Calls whose requests are empty."""


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_current(name: str) -> None:
    page = PAGE.read_text()
    assert page[place_of(page, name)] == TABLES[name](), "run python -m tests.documented_input"


def test_each_case_is_one_row_with_a_documented_code() -> None:
    assert max(Counter((case.call, case.name) for case in CASES).values()) == 1
    assert len(bad_input_table().splitlines()) == 2 + len(CASES)
    assert {case.code for case in CASES} <= {"", *OF_GRPC, *(error.code for error in all_errors())}


def test_every_call_that_can_be_got_wrong_has_cases() -> None:
    calls = {f"{service.name}.{method.name}" for service in SERVICES for method in service.methods}
    wrong = {call for call in calls if call.split(".")[1] not in NOTHING_TO_GET_WRONG}
    assert wrong == {case.call for case in CASES}


def test_where_a_case_is_judged_is_a_file_of_the_project() -> None:
    root = PAGE.parents[1]
    for judge in {case.judge for case in CASES} - {"gRPC"}:
        assert (root / judge).is_file() or (root / "protos" / judge).is_file(), judge
