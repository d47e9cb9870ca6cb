"""The tables of protos/README.md and README.md that are made from the code and from results are current."""

from deploy.benchmark.results import COMMAND, read_published
from deploy.benchmark.scenarios import SCENARIOS
from lockstep.errors import all_errors
from tests.documented import ERRORS, PAGE, README, errors_table, found_in, results_table


def test_the_table_of_errors_is_current() -> None:
    assert found_in(PAGE.read_text(), ERRORS) == errors_table(), "run python -m tests.documented"


def test_the_table_of_figures_is_current() -> None:
    assert found_in(README.read_text(), "figures") == results_table(), "run python -m tests.documented"


def test_published_results_are_of_scenarios_that_there_are() -> None:
    for scenario in read_published().scenarios:
        assert scenario.name in SCENARIOS
        assert scenario.command.startswith(f"{COMMAND}{scenario.name}")


def test_it_has_every_code_once() -> None:
    rows = errors_table().splitlines()[2:]
    assert [row.split("|")[1].strip(" `") for row in rows] == [error.code for error in all_errors()]
    assert len(rows) > 25
