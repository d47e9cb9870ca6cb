"""One log on stderr, for machines as JSON lines or for people as text, that cannot tell a secret.

Owns how events look and what is kept out of them. Services log past-tense events with fields
(`block_committed`, `height=7`); what holds for a whole call or task is bound with `structlog.contextvars`.
Three walls keep secrets out: a secret travels as `Secret`, which shows itself nowhere; fields whose names
speak of secrets are blanked; and libraries that print the values they handle (aiosqlite prints bound
parameters at DEBUG) are never let below INFO.
"""

import hmac
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, NoReturn, TextIO

import msgspec
import structlog

REDACTED: Final = "<redacted>"

_TELLING: Final = (
    "preimage",
    "secret",
    "private_key",
    "signing_key",
    "seed",
    "password",
    "passphrase",
    "token",
)
"""Parts of field names whose values are blanked."""

_TALKATIVE: Final = ("aiosqlite", "grpc", "grpc._cython", "asyncio")
"""Libraries that print what they handle, or much of nothing, below INFO."""


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the log looks like."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Events below it are dropped."""

    format: Literal["auto", "json", "human"] = "auto"
    """`auto` is text on a terminal and JSON elsewhere."""


class Secret:
    """Bytes that show themselves only to who asks: no text form, no pickling, comparison in constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        """Wrap `value`."""
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes; call it where they are used, and keep the result no longer."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would tell equal secrets apart from others

    def __repr__(self) -> str:
        return REDACTED

    def __format__(self, format_spec: str) -> str:
        return REDACTED

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied; pass the object itself")


def configure_logs(settings: LogSettings, *, process: str, stream: TextIO | None = None) -> None:
    """Send the events of structlog and of the standard library to stderr, or `stream`, from now on.

    `process` names this process in every event.
    """
    out = sys.stderr if stream is None else stream
    human = settings.format == "human" or (settings.format == "auto" and out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_process(process),
        redact,
        _show_bytes_as_hex,
    ]
    renderer = (
        # The usual formatter of tracebacks prints the local variables of every frame, secrets among them.
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if human
        else structlog.processors.JSONRenderer()
    )
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not human:
        last.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*last, renderer])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def redact(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank every field, at any depth, whose name speaks of a secret. A structlog processor."""
    return _redacted(event)


def _redacted(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: REDACTED if _is_telling(name) else _redacted_value(value) for name, value in fields.items()}


def _redacted_value(value: object) -> object:
    if isinstance(value, Mapping):
        return _redacted({str(name): inner for name, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return [_redacted_value(inner) for inner in value]
    return value


def _is_telling(name: str) -> bool:
    lowered = name.lower()
    return any(part in lowered for part in _TELLING)


def _show_bytes_as_hex(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, bytes):
            event[name] = value.hex()
    return event


def _name_process(process: str) -> structlog.typing.Processor:
    def add(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("process", process)
        return event

    return add
