"""The page of reliability is made from its file, and the file takes only what can be."""

from pathlib import Path

import pytest

from tests import reliability
from tests.reliability import Bug, Claim, Control, chance_of_failure, load, page_of, record, record_bug

SEEN = Claim(
    trials=3_000,
    failures=0,
    seeds="1 to 4",
    command="python -m tests.chaos.campaign",
    not_covered="power loss",
    date="2026-11-25",
    controls=(Control("nothing is synced", 10, 4), Control("nothing is planted", 10, 0)),
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file of results, and its page."""
    for name in ("FILE", "PAGE"):
        monkeypatch.setattr(reliability, name, tmp_path / getattr(reliability, name).name)
    (tmp_path / "RELIABILITY.json").write_text('{"claims": {}, "track_record": []}')
    return tmp_path


def write(claim: str, seen: Claim) -> None:
    fields = {name: getattr(seen, name) for name in Claim.__struct_fields__}
    record(claim, **fields)


def test_the_page_is_current() -> None:
    assert reliability.PAGE.read_text() == page_of(load()), "run python -m tests.reliability"


@pytest.mark.usefixtures("files")
def test_a_claim_is_written_and_replaced() -> None:
    write("nothing is lost", SEEN)
    write("nothing moves", SEEN)
    write("nothing is lost", Claim(**{**{n: getattr(SEEN, n) for n in SEEN.__struct_fields__}, "trials": 9}))
    claims = load().claims
    assert (claims["nothing is lost"].trials, claims["nothing moves"]) == (9, SEEN)
    page = reliability.PAGE.read_text()
    assert page == page_of(load())
    assert "| nothing moves | 3,000 | 0 | below 0.100% | 1 of 2 | 2026-11-25 |" in page


@pytest.mark.parametrize(("trials", "failures"), [(0, 0), (3, 4), (3, -1)])
def test_numbers_that_cannot_be_are_refused(files: Path, trials: int, failures: int) -> None:
    before = (files / "RELIABILITY.json").read_bytes()
    with pytest.raises(ValueError, match="cannot be"):
        record("x", trials=trials, failures=failures, seeds="", command="", not_covered="", date="")
    assert (files / "RELIABILITY.json").read_bytes() == before


def test_a_failure_is_shown_as_what_it_is() -> None:
    failed = Claim(trials=400, failures=3, seeds="", command="", not_covered="", date="")
    assert chance_of_failure(failed) == "0.75% seen"


@pytest.mark.usefixtures("files")
def test_a_bug_stands_in_the_track_record_once() -> None:
    bug = Bug(what="a receipt moved", found_by="campaign", seed="7", mended="tests/unit/x.py")
    record_bug(bug)
    record_bug(bug)
    reliability.main(["bug", "--what", "another", "--found-by", "x", "--seed", "1", "--mended", "y"])
    assert [each.what for each in load().track_record] == ["a receipt moved", "another"]
    assert "| a receipt moved | campaign | 7 | tests/unit/x.py |" in reliability.PAGE.read_text()
