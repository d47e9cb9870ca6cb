"""The error tree: unique codes, messages that fill in, records that travel and come back."""

import dataclasses

import pytest

import lockstep.errors as tree
from lockstep.errors import (
    FIELD_CHARACTERS_MAX,
    MESSAGE_CHARACTERS_MAX,
    STATUSES,
    ErrorRecord,
    Foreign,
    LockstepError,
    Malformed,
    NotYet,
    ProofInvalid,
    QueueFull,
    UnknownNamespace,
    all_errors,
    from_record,
)


def example(leaf: type[LockstepError]) -> LockstepError:
    """Make an instance of a leaf with some value in each field."""
    declared: dict[str, dataclasses.Field[object]] = getattr(leaf, "__dataclass_fields__", {})
    arguments = {
        name: 7 if field.type is int else f"some {name}"
        for name, field in declared.items()
        if name != "retry_after_ms"
    }
    return leaf(**arguments)


LEAVES = pytest.mark.parametrize("leaf", all_errors(), ids=lambda leaf: leaf.code)


def test_codes_are_unique_and_shaped() -> None:
    codes = [leaf.code for leaf in all_errors()]
    assert len(codes) > 25
    assert len(set(codes)) == len(codes)
    assert all(code == code.upper() and code.replace("_", "").isalpha() for code in codes)


@LEAVES
def test_leaf_is_complete(leaf: type[LockstepError]) -> None:
    error = example(leaf)
    assert error.status in STATUSES
    assert leaf.__doc__
    assert error.code in str(error)
    assert "{" not in error.message
    assert all(text in error.message for text in error.fields.values()), (
        "a field that the message does not tell"
    )
    assert error.retryable or error.retry_after_ms is None


@LEAVES
def test_leaf_is_in_the_drawing(leaf: type[LockstepError]) -> None:
    [line] = [line for line in (tree.__doc__ or "").splitlines() if f"── {leaf.__name__} " in line]
    assert leaf.code in line.split()


@LEAVES
def test_record_round_trip(leaf: type[LockstepError]) -> None:
    error = example(leaf)
    back = from_record(error.to_record())
    assert type(back) is leaf
    assert back.to_record() == error.to_record()
    assert {**vars(back), **vars(error)} == vars(back)


def test_typed_fields_come_back() -> None:
    back = from_record(NotYet(height=9, newest=4).to_record())
    assert isinstance(back, NotYet)
    assert (back.height, back.newest, back.retryable, back.retry_after_ms) == (9, 4, True, 250)


def test_the_senders_words_win() -> None:
    sent = QueueFull(queue="bundle", limit=10, retry_after_ms=42).to_record()
    back = from_record(dataclasses.replace(sent, message="other words", retryable=False))
    assert (back.message, back.retryable, back.retry_after_ms) == ("other words", False, 42)
    assert QueueFull.retryable, "the class was changed by one of its instances"


@pytest.mark.parametrize(
    ("code", "fields", "status"),
    [
        ("FROM_THE_FUTURE", {"a": "b"}, "ABORTED"),
        ("NOT_YET", {"height": "9"}, "OUT_OF_RANGE"),
        ("NOT_YET", {"height": "9", "newest": "many"}, "OUT_OF_RANGE"),
        ("", {}, "ABORTED"),
    ],
)
def test_what_is_not_understood_is_kept(code: str, fields: dict[str, str], status: str) -> None:
    record = ErrorRecord(code, "words", retryable=True, retry_after_ms=5, fields=fields)
    back = from_record(record, "ABORTED")
    assert isinstance(back, Foreign)
    assert back.status == status
    assert back.to_record() == record


def test_long_text_is_cut() -> None:
    error = Malformed(what="w" * 10_000, field="f" * 10_000, reason="{r}" * 10_000)
    assert len(error.message) <= MESSAGE_CHARACTERS_MAX
    assert all(len(text) <= FIELD_CHARACTERS_MAX for text in error.fields.values())
    received = from_record(ErrorRecord("X", "m" * 10_000, retryable=False, retry_after_ms=None, fields={}))
    assert len(received.message) <= MESSAGE_CHARACTERS_MAX


def test_text_of_strangers_is_made_plain() -> None:
    error = Malformed(what="namespace", field="näme\n\x1b[31m", reason="is odd")
    assert error.fields["field"] == "n\\xe4me\\n\\x1b[31m"
    assert from_record(error.to_record()).to_record() == error.to_record()
    assert error.message.isascii()
    assert error.message.isprintable()


@pytest.mark.parametrize("plain", ["", "a", "a" * 255, "a" * 256, "a" * 257, "a" * 300])
@pytest.mark.parametrize("odd", ["", "\x00", "ä", "\x7f", "\N{EM DASH}"])
def test_text_is_shown_in_full_or_cut_whatever_is_in_it(plain: str, odd: str) -> None:
    shown = UnknownNamespace(namespace=odd + plain).fields["namespace"]
    whole = ascii(odd)[1:-1] + plain
    assert shown == (
        whole if len(whole) <= FIELD_CHARACTERS_MAX else whole[: FIELD_CHARACTERS_MAX - 3] + "..."
    )


def test_a_proof_error_takes_its_reason_alone() -> None:
    assert "wrong root" in ProofInvalid("wrong root").message
