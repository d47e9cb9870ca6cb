"""Rules about the code that no linter has: purity, SQL, length of modules.

Each rule is a function from a tree of modules to complaints. It is run on the project, and on a small tree
with the violation planted in it, where it must complain.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SOURCES = {
    "lockstep": Path("protos/lockstep"),
    "sequencer": Path("sequencer"),
    "rollups": Path("rollups"),
    "bridge": Path("bridge"),
    "deploy": Path("deploy"),
    "tests": Path("tests"),
}
"""Top-level packages and where they lie."""

GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
"""Files that are made from the schemas: held to no rule, and not pure."""

LINES_MAX = 600
"""Lines of a module, blank ones not counted. Most have half; more is two ideas in one place."""

PURE_IMPORTS = frozenset(
    (
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "itertools",
        "json",
        "math",
        "msgspec",
        "nacl.bindings",
        "nacl.exceptions",
        "operator",
        "re",
        "string",
        "struct",
        "types",
        "typing",
        "unicodedata",
    )
)
"""What a pure module may import from outside: no I/O, no clock, no randomness, no threads, no event loop."""

IMPURE_CALLS = frozenset({"__import__", "eval", "exec", "float", "input", "open", "print"})
"""Built-in functions that do I/O, escape these rules, or make a float."""

SQL_VERB = re.compile(
    r"\s*(ALTER|ANALYZE|ATTACH|CREATE|DELETE|DROP|INSERT|REINDEX|REPLACE|SELECT|UPDATE|VACUUM|WITH)\s"
)


@dataclass(frozen=True)
class Module:
    """A Python file of the project."""

    name: str
    """Dotted; a package is named without `__init__`."""
    path: Path
    """From the root of the tree."""
    source: str
    """Its text."""
    tree: ast.Module
    """Its text, parsed."""
    is_package: bool
    """Whether it is an `__init__.py`."""

    @property
    def is_pure(self) -> bool:
        """Whether it says `__pure__ = True`."""
        return any(
            isinstance(node, ast.Assign)
            and [ast.unparse(target) for target in node.targets] == ["__pure__"]
            and isinstance(node.value, ast.Constant)
            and node.value.value is True
            for node in self.tree.body
        )

    @property
    def is_inert(self) -> bool:
        """Whether it is nothing but a docstring, as a package's `__init__.py` may be."""
        return all(
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in self.tree.body
        )

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and dotted name of everything imported, wherever in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                package = node.module or ""
                if node.level:
                    parents = self.name.split(".")
                    kept = parents[: len(parents) - node.level + self.is_package]
                    package = ".".join([*kept, package] if package else kept)
                for alias in node.names:
                    yield node.lineno, f"{package}.{alias.name}"


Modules = Mapping[str, Module]
"""Modules by dotted name."""


def load(root: Path) -> Modules:
    """Read all modules below `root` that are not generated."""
    modules = {}
    for package, folder in SOURCES.items():
        for file in sorted((root / folder).rglob("*.py")):
            if GENERATED.search(file.name) or "node_modules" in file.parts:
                continue
            parts = [package, *file.relative_to(root / folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            source = file.read_text()
            modules[name] = Module(name, file.relative_to(root), source, ast.parse(source), is_package)
    return modules


def prefixes(name: str) -> list[str]:
    """Return `a`, `a.b` and `a.b.c` for `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def missing_marks(modules: Modules) -> Iterator[str]:
    """All of `lockstep` outside of the generated v1 is pure, and says so."""
    for module in modules.values():
        in_lockstep = module.name.startswith("lockstep.") and not module.name.startswith("lockstep.v1")
        if in_lockstep and not module.is_pure:
            yield f"{module.path}: must say `__pure__ = True`, as all of lockstep outside of v1"


def impure_imports(modules: Modules) -> Iterator[str]:
    """A pure module imports pure modules and PURE_IMPORTS, nothing else."""
    for module in modules.values():
        if not module.is_pure:
            continue
        for line, name in module.imports():
            if name.split(".")[0] not in SOURCES:
                if PURE_IMPORTS.isdisjoint(prefixes(name)):
                    yield f"{module.path}:{line}: pure, but imports {name}, which is not in PURE_IMPORTS"
                continue
            known = [modules[prefix] for prefix in prefixes(name) if prefix in modules]
            for imported in known:
                if not (imported.is_pure or imported.is_inert):
                    yield f"{module.path}:{line}: pure, but imports {imported.name}, which is not"
            if "v1" in name.split(".") or not known:
                yield f"{module.path}:{line}: pure, but imports {name}, which is generated or not there"


def impure_acts(modules: Modules) -> Iterator[str]:
    """A pure module does no I/O through built-in functions and has no floats."""
    for module in modules.values():
        if not module.is_pure:
            continue
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                    yield f"{module.path}:{node.lineno}: pure, but calls {name}()"
                case ast.Constant(value=float()):
                    yield f"{module.path}:{node.lineno}: pure, but has the float {node.value!r}"
                case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                    yield f"{module.path}:{node.lineno}: pure, but divides to a float; use //"


def impure_reexecution(modules: Modules) -> Iterator[str]:
    """The settlement log imports of the rollups their client and what is pure, to re-execute blocks."""
    for module in modules.values():
        if not module.name.startswith("bridge.settlement"):
            continue
        for line, name in module.imports():
            if name.split(".")[0] != "rollups" or "rollups.client" in prefixes(name):
                continue
            imported = [modules[prefix] for prefix in prefixes(name) if prefix in modules][-1]
            if not (imported.is_pure or imported.is_inert):
                yield f"{module.path}:{line}: the settlement log imports {imported.name}, which is not pure"


def long_modules(modules: Modules) -> Iterator[str]:
    """No module has more than LINES_MAX lines."""
    for module in modules.values():
        count = sum(bool(line.strip()) for line in module.source.splitlines())
        if count > LINES_MAX:
            yield f"{module.path}: {count} lines that are not blank, at most {LINES_MAX} may be"


def composed_text(node: ast.AST) -> str | None:
    """Return what is constant of a text put together at run time, or None if the node is no such text."""
    match node:
        case ast.JoinedStr(values=parts):
            constants = [part.value for part in parts if isinstance(part, ast.Constant)]
            return "".join(str(part) for part in constants) if len(constants) < len(parts) else None
        case (
            ast.BinOp(op=ast.Add() | ast.Mod(), left=ast.Constant(value=str(text)))
            | ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format"))
        ):
            return text
        case ast.BinOp(op=ast.Add() | ast.Mod(), left=left):
            return composed_text(left)
        case _:
            return None


def composed_sql(modules: Modules) -> Iterator[str]:
    """SQL is written out, with values bound to it; only a PRAGMA, which takes none, is composed."""
    for module in modules.values():
        if module.name.startswith("tests"):
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.expr):
                continue
            text = composed_text(node)
            if text is not None and SQL_VERB.match(text):
                yield f"{module.path}:{node.lineno}: composes SQL; bind the values"
            match node:
                case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]) if name.startswith("execute"):
                    text = composed_text(first)
                    if text is not None and not text.startswith("PRAGMA "):
                        yield f"{module.path}:{node.lineno}: executes composed SQL; bind the values"


Rule = Callable[[Modules], Iterator[str]]

PLANTED: tuple[tuple[Rule, str, str, str | None], ...] = (
    # The rule, the module, what is planted in it, and the complaint (None: allowed).
    (missing_marks, "lockstep.planted", "", "must say"),
    (missing_marks, "lockstep.planted", "__pure__ = False", "must say"),
    (missing_marks, "lockstep.planted", "__pure__ = True", None),
    (missing_marks, "lockstep.v1.planted", "", None),
    (missing_marks, "rollups.planted", "", None),
    (impure_imports, "rollups.planted", "import time", None),
    (impure_imports, "rollups.planted", "__pure__ = True\nimport time", "imports time"),
    (impure_imports, "rollups.planted", "__pure__ = True\nimport os.path", "imports os.path"),
    (
        impure_imports,
        "rollups.planted",
        "__pure__ = True\nfrom datetime import date",
        "imports datetime.date",
    ),
    (
        impure_imports,
        "rollups.planted",
        "__pure__ = True\ndef f():\n  import random",
        ":3: pure, but imports random",
    ),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom nacl import signing", "imports nacl.signing"),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom nacl.bindings import x", None),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom collections.abc import Iterator", None),
    (
        impure_imports,
        "rollups.planted",
        "__pure__ = True\nfrom rollups import shell",
        "imports rollups.shell",
    ),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom . import shell", "imports rollups.shell"),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom .shell import x", "imports rollups.shell"),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom rollups.core import x", None),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom .core import x", None),
    (impure_imports, "rollups.planted", "__pure__ = True\nfrom lockstep.v1 import order_pb2", "is generated"),
    (impure_imports, "rollups.planted", "__pure__ = True\nimport sequencer.gone", "not there"),
    (impure_acts, "rollups.planted", "__pure__ = True\nprint('x')", "calls print()"),
    (impure_acts, "rollups.planted", "__pure__ = True\nopen('x')", "calls open()"),
    (impure_acts, "rollups.planted", "__pure__ = True\nx = 0.5", "the float 0.5"),
    (impure_acts, "rollups.planted", "__pure__ = True\nx = 1 / 2", "use //"),
    (impure_acts, "rollups.planted", "__pure__ = True\nx = 1\nx /= 2", "use //"),
    (impure_acts, "rollups.planted", "__pure__ = True\nx = 1 // 2", None),
    (impure_acts, "rollups.planted", "x = 1 / 2", None),
    (
        impure_reexecution,
        "bridge.settlement.planted",
        "from rollups.shell import x",
        "rollups.shell, which is not",
    ),
    (impure_reexecution, "bridge.settlement.planted", "from rollups.core import x", None),
    (impure_reexecution, "bridge.settlement.planted", "from rollups.client import x", None),
    (long_modules, "rollups.planted", "x = 1\n" * (LINES_MAX + 1), "601 lines"),
    (long_modules, "rollups.planted", "x = 1\n\n" * LINES_MAX, None),
    (composed_sql, "rollups.planted", "db.execute(f'DROP TABLE {x}')", "executes composed SQL"),
    (composed_sql, "rollups.planted", "db.executemany('x %s' % y, rows)", "executes composed SQL"),
    (composed_sql, "rollups.planted", "db.execute('x {}'.format(y))", "executes composed SQL"),
    (composed_sql, "rollups.planted", "db.execute('x ' + y + ' z')", "executes composed SQL"),
    (composed_sql, "rollups.planted", "sql = f'SELECT {x}'", "composes SQL"),
    (composed_sql, "rollups.planted", "db.execute(f'PRAGMA user_version = {x}')", None),
    (composed_sql, "rollups.planted", "db.execute('SELECT 1 WHERE x = ?', (x,))", None),
    (composed_sql, "rollups.planted", "say(f'Select {x}')", None),
    (composed_sql, "tests.planted", "db.execute(f'DROP TABLE {x}')", None),
)

RULES = tuple(dict.fromkeys(rule for rule, *_ in PLANTED))


@pytest.fixture(scope="module")
def project() -> Modules:
    return load(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(project: Modules, rule: Rule) -> None:
    assert list(rule(project)) == []


@pytest.mark.parametrize(("rule", "name", "source", "complaint"), PLANTED)
def test_the_rule_bites(tmp_path: Path, rule: Rule, name: str, source: str, complaint: str | None) -> None:
    files = {"rollups": "", "rollups.core": "__pure__ = True", "rollups.shell": "x = 1", name: source}
    for module, text in files.items():
        package, *rest = module.split(".")
        file = tmp_path.joinpath(SOURCES[package], *(rest or ["__init__"])).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = list(rule(load(tmp_path)))
    if complaint is None:
        assert found == []
    else:
        assert len(found) >= 1
        assert complaint in found[0]


def test_generated_modules_are_held_to_no_rule(tmp_path: Path) -> None:
    (tmp_path / "protos/lockstep/v1").mkdir(parents=True)
    for name in ("order_pb2.py", "order_pb2_grpc.py"):
        (tmp_path / "protos/lockstep/v1" / name).write_text("x = 1\n" * (LINES_MAX + 1))
    assert load(tmp_path) == {}
