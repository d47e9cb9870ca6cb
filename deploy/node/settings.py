"""A typed record from a TOML file and the environment.

Owns how settings are found, checked and refused. Does not own any setting: each service declares a frozen
`msgspec.Struct` with `forbid_unknown_fields=True`, bounds in `msgspec.Meta`, and units last in names. The
environment wins over the file: `LOCKSTEP_PORT=7000` sets `port`, `LOCKSTEP_LIMITS__QUEUE_MAX=9` sets
`limits.queue_max`. Numbers, booleans and texts are written plainly there, lists and tables as in TOML.

A path in the file is relative to the file's folder; one in the environment to the working directory.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec

from deploy.node.failpoints import COUNT_VARIABLE, FAILPOINTS_VARIABLE
from deploy.node.failures import SettingsInvalid

ENVIRONMENT_PREFIX: Final = "LOCKSTEP_"

NOT_SETTINGS: Final = (FAILPOINTS_VARIABLE, COUNT_VARIABLE, "LOCKSTEP_TEST_")
"""Beginnings of variables that share the prefix and are no settings."""

_PATH_IN_MESSAGE: Final = re.compile(r"^(?P<complaint>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(?P<name>[^`]*)`")

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


def load_settings(kind: type[_Settings], path: Path | None, environ: Mapping[str, str]) -> _Settings:
    """Return settings of `kind` from the TOML file at `path`, if any, overridden by the environment.

    Raises SettingsInvalid, naming the file or variable, the field, what was expected and what to do.
    """
    values = {} if path is None else _read_toml(path)
    origins: dict[str, str] = {}
    for name, text in sorted(environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and not name.startswith(NOT_SETTINGS):
            field_path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _put(values, field_path, _parse_variable(kind, name, field_path, text), name)
            origins[".".join(field_path)] = name
    base = Path() if path is None else path.parent
    try:
        return msgspec.convert(values, kind, dec_hook=_decode_paths_below(base))
    except msgspec.ValidationError as error:
        raise SettingsInvalid(_explain(kind, str(error), path, origins)) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsInvalid(
            f"{path} cannot be read: {error.strerror}; name a settings file that exists"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"{path} is not TOML: {error}; correct that line") from error


def _parse_variable(kind: type[msgspec.Struct], name: str, field_path: list[str], text: str) -> object:
    """Return a variable's value, read as its field's type wants it."""
    wanted = _type_at(kind, name, field_path)
    try:
        return msgspec.convert(text, wanted, strict=False, dec_hook=_decode_paths_below(Path.cwd()))
    except msgspec.ValidationError as error:
        if get_origin(wanted) is Literal:
            raise SettingsInvalid(
                f"{name}: {error}; allowed are: {', '.join(map(str, get_args(wanted)))}"
            ) from None
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            raise SettingsInvalid(
                f"{name}: {error}, got {text!r}; correct the variable or unset it"
            ) from None


def _type_at(kind: type[msgspec.Struct], name: str, field_path: list[str]) -> object:
    """Return the declared type of a field. Raises SettingsInvalid if there is no such field."""
    wanted: object = kind
    for depth, part in enumerate(field_path):
        known = {
            field.name: field.type for struct in _structs(wanted) for field in msgspec.structs.fields(struct)
        }
        if part not in known:
            prefix = "".join(f"{above.upper()}__" for above in field_path[:depth])
            variables = [f"{ENVIRONMENT_PREFIX}{prefix}{field.upper()}" for field in known]
            raise SettingsInvalid(f"{name} sets nothing; {_suggest(name, variables)}")
        wanted = known[part]
    return wanted


def _structs(kind: object) -> list[type[msgspec.Struct]]:
    """Return the records that a type may be: itself, or members of its union."""
    return [
        part
        for part in (kind, *get_args(kind))
        if isinstance(part, type) and issubclass(part, msgspec.Struct)
    ]


def _put(values: dict[str, Any], field_path: list[str], value: object, name: str) -> None:
    *parents, last = field_path
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise SettingsInvalid(f"{name} sets a field of {parent}, which the file gives as a single value")
    values[last] = value


def _decode_paths_below(base: Path) -> Callable[[type, object], object]:
    """Return the hook by which msgspec reads paths, relative ones being below `base`."""

    def decode(kind: type, value: object) -> object:
        if kind is Path and isinstance(value, str) and value:
            return base / value
        if kind is Path and isinstance(value, Path):
            # Read from a variable before.
            return value
        raise ValueError(f"Expected {'a path' if kind is Path else kind.__name__}, got {value!r}")

    return decode


def _explain(kind: type[msgspec.Struct], message: str, path: Path | None, origins: Mapping[str, str]) -> str:
    matched = _PATH_IN_MESSAGE.fullmatch(message)
    assert matched is not None, "the pattern matches every text"
    field_path = (matched["path"] or "").lstrip(".")
    complaint = matched["complaint"]
    source = origins.get(field_path) or ("the environment" if path is None else str(path))
    advice = "correct it there"
    if path is None and not origins.get(field_path):
        advice = "name a settings file with --config FILE.toml, or set it by a variable"
    if complaint.startswith("Invalid enum value"):
        advice = f"allowed are: {', '.join(_allowed_at(kind, field_path))}"
    unknown = _UNKNOWN_FIELD.search(complaint)
    if unknown is not None:
        advice = _suggest(unknown["name"], _fields_at(kind, field_path))
    where = f"{source}: {field_path}: " if field_path else f"{source}: "
    return f"{where}{complaint}; {advice}"


def _fields_at(kind: object, field_path: str) -> list[str]:
    found = _declared_at(kind, field_path)
    return [field.name for struct in _structs(found) for field in msgspec.structs.fields(struct)]


def _allowed_at(kind: object, field_path: str) -> list[str]:
    """Return the values that a field of a Literal type may have."""
    return [str(value) for value in get_args(_declared_at(kind, field_path))]


def _declared_at(kind: object, field_path: str) -> object:
    """Return the type of the field at a path; None if there is none."""
    for part in filter(None, field_path.split(".")):
        types = {
            field.name: field.type for struct in _structs(kind) for field in msgspec.structs.fields(struct)
        }
        kind = types.get(part)
    return kind


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(sorted(known)) or 'none'}"
