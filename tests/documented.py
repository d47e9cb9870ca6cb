"""Tables of the documentation that are made from the code: `python -m tests.documented` writes them.

Owns their place between two markers: errors in protos/README.md, settings, failpoints, exit codes, receipts'
codes and phases in the guides of the services, commands in deploy/README.md, figures in README.md. A test of
each table insists that the page has the newest one.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from bridge import phases
from bridge.settings import BridgeSettings
from bridge.settlement.settings import SettlementSettings
from deploy.benchmark.results import published_rows, read_published
from deploy.cli import main
from deploy.commands import frame
from deploy.network_file import NetworkFile
from deploy.node import failures
from deploy.node.client import ClientSettings
from deploy.node.failpoints import FAILPOINTS
from deploy.node.logs import LogSettings
from deploy.node.server import ServerSettings
from deploy.node.tls import ClientTls, ServerTls
from lockstep.errors import LockstepError, all_errors
from lockstep.receipts import ReceiptCode
from rollups.settings import RollupSettings
from sequencer.settings import SequencerSettings

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "protos" / "README.md"
SEQUENCER: Final = ROOT / "sequencer" / "README.md"
ROLLUPS: Final = ROOT / "rollups" / "README.md"
BRIDGE: Final = ROOT / "bridge" / "README.md"
DEPLOY: Final = ROOT / "deploy" / "README.md"
README: Final = ROOT / "README.md"

ERRORS: Final = "errors"
"""The table of all codes."""

MAINS: Final = ("sequencer", "rollups", "bridge", "bridge.settlement")
"""What `python -m` runs; to import one's main module declares every failpoint of its process."""

TRADER: Final = "bridge.client"
"""What declares the failpoints of a trader's process."""

_INT64: Final = 2**63


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def errors_table() -> str:
    """Return the table of every code, in the order of the tree."""
    return table(
        ("code", "gRPC status", "retry", "when", "message, which says what to do"), map(_row, all_errors())
    )


def _row(error: type[LockstepError]) -> tuple[str, ...]:
    when = " ".join((error.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
    return f"`{error.code}`", error.status, _retry(error), when, error.template.replace("!r}", "}")


def _retry(error: type[LockstepError]) -> str:
    if not error.retryable:
        return "no"
    return "yes" if error.retry_after_ms is None else f"after {error.retry_after_ms:,} ms"


# --- settings ---------------------------------------------------------------------------------------------


def settings_table(kind: type[msgspec.Struct]) -> str:
    """Return the table of every field of a record of settings, in order."""
    meanings = _meanings(kind)
    rows = [
        (
            f"`{field.name}`",
            _type_text(msgspec.inspect.type_info(field.type)),
            _default(field),
            meanings[field.name],
        )
        for field in msgspec.structs.fields(kind)
    ]
    return table(("setting", "type", "default", "meaning"), rows)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        assert callable(field.default_factory), "what is not required has a default or makes one"
        value = field.default_factory()
    if value is None:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    return f'"{value}"' if isinstance(value, str) else "empty"


def _type_text(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(
                _type_text(each) for each in types if not isinstance(each, msgspec.inspect.NoneType)
            )
        case msgspec.inspect.IntType(ge=low, le=high):
            return "number" if low is None or high is None else f"{low:,}..{high:,}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f'"{value}"' for value in values)
        case msgspec.inspect.StructType(cls=kind):
            return f"table, [`{kind.__name__}`](../sequencer/README.md#{kind.__name__.lower()})"
        case msgspec.inspect.DictType(value_type=value_type):
            return f"table: name to {_type_text(value_type)}"
        case (
            msgspec.inspect.VarTupleType(item_type=item_type) | msgspec.inspect.ListType(item_type=item_type)
        ):
            return f"list of {_type_text(item_type)}"
        case msgspec.inspect.CustomType(cls=kind) if kind is Path:
            return "path"
        case _:
            raise TypeError(f"no words for {info}")


def _meanings(kind: type) -> Mapping[str, str]:
    """Return the docstring of every attribute of a class, on one line."""
    [made] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(made, ast.ClassDef)
    found = {}
    for node, following in zip(made.body, made.body[1:], strict=False):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and isinstance(following, ast.Expr):
            assert isinstance(following.value, ast.Constant)
            found[target.id] = " ".join(str(following.value.value).split())
    return found


# --- the rest ---------------------------------------------------------------------------------------------


def all_failpoints() -> Mapping[str, str]:
    """Return every failpoint of every process, and where it stands."""
    for name in (*(f"{name}.__main__" for name in MAINS), TRADER):
        importlib.import_module(name)
    return FAILPOINTS.declared()


def failpoints_of(*owners: str) -> Mapping[str, str]:
    """Return the failpoints of processes whose names start with one of `owners`, and where they stand."""
    return {name: what for name, what in sorted(all_failpoints().items()) if name.split(".")[0] in owners}


def failpoints_table(*owners: str) -> str:
    """Return the table of these failpoints."""
    return table(
        ("failpoint", "when it is passed"),
        [(f"`{name}`", what) for name, what in failpoints_of(*owners).items()],
    )


def exit_codes_table() -> str:
    """Return the table of what a process exits with, from the docstring of `deploy.node.failures`."""
    found = dict(re.findall(r"^    (\d+)\s+(.+)$", failures.__doc__ or "", re.MULTILINE))
    # What is imported beside them, such as commands, has failures of its own.
    ours = [each for each in failures.ProcessFailure.__subclasses__() if each.__module__ == failures.__name__]
    names = {str(each.exit_code): each.__name__ for each in ours}
    rows = [(code, f"`{names[code]}`" if code in names else "", what) for code, what in found.items()]
    assert set(names) <= set(found), "every failure's code is in the docstring"
    return table(("exit code", "`process_failed` in the log names", "meaning"), rows)


def command_exit_codes_table() -> str:
    """Return the table of what a command exits with, from the docstring of `deploy.commands.frame`."""
    found = re.findall(r"^    (\d+)\s+(.+)$", frame.__doc__ or "", re.MULTILINE)
    known = {value for name, value in vars(frame).items() if name.startswith("EXIT_")}
    assert {int(code) for code, _ in found} == known, "every code is in the docstring"
    return table(("exit code", "meaning"), found)


# --- commands ---------------------------------------------------------------------------------------------

SHARED_OPTIONS: Final = frozenset(("--network FILE", "--json", "--help"))
"""Options that are told of once, before the table."""


def commands_table() -> str:
    """Return the table of every command, in the order of `lockstep --help`."""
    top = click.Context(main, info_name="lockstep", help_option_names=["--help"])
    return table(("command", "what it does", "options"), map(_command_row, _commands(top)))


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of every command that is no group."""
    group = context.command
    if not isinstance(group, click.Group):
        yield context
        return
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from _commands(click.Context(found, parent=context, info_name=name))


def _command_row(context: click.Context) -> tuple[str, ...]:
    needed, others = [], []
    for parameter in context.command.get_params(context):
        text = _parameter_text(parameter, context)
        if isinstance(parameter, click.Argument) or parameter.required:
            needed.append(text)
        elif text not in SHARED_OPTIONS:
            others.append(f"`{text}`")
    command = " ".join((*_names(context), *needed))
    return f"`{command}`", context.command.get_short_help_str(limit=400), ", ".join(others)


def _names(context: click.Context) -> list[str]:
    """Return what is typed before a command's own arguments, but for `lockstep`."""
    if context.parent is None:
        return []
    assert context.info_name is not None
    return [*_names(context.parent), context.info_name]


def _parameter_text(parameter: click.Parameter, context: click.Context) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(context)
    assert isinstance(parameter, click.Option)
    names = "/".join((*parameter.opts[:1], *parameter.secondary_opts))
    if parameter.is_flag:
        return names
    value = "N" if isinstance(parameter.type, click.IntRange) else parameter.make_metavar(context)
    return f"{names} {value}"


def members_table(kind: type[Enum], head: Sequence[str], *, numbers: bool) -> str:
    """Return the table of an enumeration's members."""
    meanings = _meanings(kind)
    return table(
        head,
        [
            (*((str(member.value),) if numbers else ()), f"`{member.name}`", meanings[member.name])
            for member in kind
        ],
    )


def phases_table() -> str:
    """Return the table of a swap's phases, with what leads out of each."""
    meanings = _meanings(phases.Phase)
    rows = []
    for phase in phases.Phase:
        moves = [
            f"{given.value}: {end.name}"
            for (start, given), end in phases.MOVES.items()
            if start is phase and end is not phase
        ]
        rows.append(
            (str(phase.value), f"`{phase.name}`", meanings[phase.name], ", ".join(moves) or "nothing")
        )
    return table(("", "phase", "meaning", "what leads out of it"), rows)


def phases_diagram() -> str:
    """Return the diagram of the moves between phases."""
    return f"```mermaid\n{phases.diagram()}```\n"


def results_table() -> str:
    """Return the table of figures that were measured, from deploy/benchmark/RESULTS.json."""
    head = ("`--only`", "figure", "to reach", "seen, median (lowest to highest)", "limit", "ratio", "load")
    return table(head, published_rows(read_published()))


def _settings(kind: type[msgspec.Struct]) -> Callable[[], str]:
    return partial(settings_table, kind)


TABLES: Final[Mapping[Path, Mapping[str, Callable[[], str]]]] = {
    PAGE: {ERRORS: errors_table},
    SEQUENCER: {
        "settings": _settings(SequencerSettings),
        "ServerSettings": _settings(ServerSettings),
        "ServerTls": _settings(ServerTls),
        "ClientSettings": _settings(ClientSettings),
        "ClientTls": _settings(ClientTls),
        "LogSettings": _settings(LogSettings),
        "failpoints": partial(failpoints_table, "sequencer"),
        "failpoints of every process": partial(failpoints_table, "cell", "database", "file"),
        "exit codes": exit_codes_table,
    },
    ROLLUPS: {
        "settings": _settings(RollupSettings),
        "failpoints": partial(failpoints_table, "rollup"),
        "receipt codes": partial(members_table, ReceiptCode, ("", "code", "meaning"), numbers=True),
    },
    BRIDGE: {
        "settings": _settings(BridgeSettings),
        "failpoints": partial(failpoints_table, "bridge"),
        "trader failpoints": partial(failpoints_table, "trader"),
        "phases": phases_table,
        "moves": phases_diagram,
        "settlement settings": _settings(SettlementSettings),
        "settlement failpoints": partial(failpoints_table, "settlement"),
    },
    DEPLOY: {
        "the network file": _settings(NetworkFile),
        "commands": commands_table,
        "exit codes of commands": command_exit_codes_table,
    },
    README: {"figures": results_table},
}
"""Every table that is made, by page and name."""


def found_in(page: str, name: str) -> str:
    """Return the table that stands in a page. ValueError if its markers are missing."""
    begin, end = _markers(name)
    return page[page.index(begin) + len(begin) : page.index(end)]


def put_into(page: str, name: str, made: str) -> str:
    """Return a page with another table between its markers."""
    begin, end = _markers(name)
    return page[: page.index(begin) + len(begin)] + made + page[page.index(end) :]


def _markers(name: str) -> tuple[str, str]:
    return (
        f"<!-- The table of {name} is made by `python -m tests.documented`; a test proves it current. -->\n",
        f"<!-- end of the table of {name} -->\n",
    )


def write() -> None:
    """Bring every table up to date."""
    for path, makers in TABLES.items():
        page = path.read_text()
        for name, make in makers.items():
            page = put_into(page, name, make())
        path.write_text(page)


if __name__ == "__main__":
    write()
