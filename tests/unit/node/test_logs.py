"""Logs: both formats, levels, and walls that no secret passes."""

import base64
import copy
import io
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from deploy.node.database import open_database
from deploy.node.logs import REDACTED, LogSettings, Secret, configure_logs

CANARY = bytes(range(200, 232))


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_lines(out: io.StringIO) -> None:
    configure_logs(LogSettings(), process="sequencer", stream=out)
    with structlog.contextvars.bound_contextvars(swap_id="ab"):
        structlog.get_logger("writer").info("block_committed", height=7, hash=b"\x01\xff")
    structlog.get_logger().debug("not_shown")
    logging.getLogger("library").warning("from %s", "elsewhere")
    first, second = lines(out)
    assert first.pop("timestamp")
    assert first == {
        "event": "block_committed",
        "level": "info",
        "logger": "writer",
        "process": "sequencer",
        "height": 7,
        "hash": "01ff",
        "swap_id": "ab",
    }
    assert (second["event"], second["process"], second["level"]) == ("from elsewhere", "sequencer", "warning")


def test_a_traceback_is_one_json_line(out: io.StringIO) -> None:
    configure_logs(LogSettings(format="json"), process="p", stream=out)
    try:
        raise KeyError("missing")
    except KeyError:
        structlog.get_logger().exception("call_failed")
    [line] = lines(out)
    assert "KeyError: 'missing'" in str(line["exception"])


def test_human_text(out: io.StringIO) -> None:
    configure_logs(LogSettings(format="human", level="debug"), process="p", stream=out)
    structlog.get_logger().debug("block_committed", height=7)
    assert "block_committed" in out.getvalue()
    assert "height=7" in out.getvalue()


@pytest.mark.parametrize("format_name", ["human", "json"])
def test_a_traceback_tells_no_local_variable(out: io.StringIO, format_name: str) -> None:
    configure_logs(LogSettings(format=format_name), process="p", stream=out)  # type: ignore[arg-type]
    unlocked = CANARY[:4].hex()
    try:
        raise KeyError(len(unlocked))
    except KeyError:
        structlog.get_logger().exception("failed")
    assert "KeyError" in out.getvalue()
    assert unlocked not in out.getvalue()


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(CANARY)
    assert {str(secret), repr(secret), f"{secret}", f"{secret!r:>3}", f"{secret:x}", f"{[secret]}"[1:-1]} == {
        REDACTED
    }
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY)
    assert secret != Secret(CANARY[1:])
    assert secret != CANARY
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copying(secret)
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)


@pytest.mark.parametrize("format_name", ["json", "human"])
async def test_no_secret_reaches_the_log_at_debug(out: io.StringIO, format_name: str, tmp_path: Path) -> None:
    settings = LogSettings(level="debug", format="json" if format_name == "json" else "human")
    configure_logs(settings, process="bridge", stream=out)
    log = structlog.get_logger().bind(preimage=CANARY)
    log.debug("bound")
    log.info("named", swap_preimage=CANARY.hex(), signing_key=CANARY, nested={"private_key": [CANARY]})
    log.info("listed", legs=[{"secret": CANARY}], wrapped=Secret(CANARY))
    logging.getLogger("elsewhere").debug("wrapped %s", Secret(CANARY))
    schema = ("CREATE TABLE kept (preimage BLOB) STRICT",)
    async with open_database(tmp_path / "db", schema=schema, application_id=1) as database:
        await database.transact([("INSERT INTO kept VALUES (?)", [(CANARY,)])])
        assert await database.read_one("SELECT count(*) FROM kept WHERE preimage = ?", (CANARY,)) == (1,)
    text = out.getvalue()
    assert all(event in text for event in ("bound", "named", "listed", "wrapped"))
    assert "aiosqlite" not in text
    forms = (
        CANARY.hex(),
        base64.b64encode(CANARY).decode(),
        repr(CANARY),
        str(list(CANARY)),
        CANARY.decode("latin1"),
    )
    assert not [form for form in forms if form in text]
    for name in ("aiosqlite", "grpc", "grpc._cython.cygrpc"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
