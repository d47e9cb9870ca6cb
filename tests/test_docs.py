"""The guides of the services: what they show runs, what they list is what there is, what they name exists."""

import asyncio
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pytest

from bridge.settings import BridgeSettings
from bridge.settlement.settings import SettlementSettings
from deploy.cli import main
from deploy.devnet.launcher import running
from deploy.devnet.network import Network, create_network
from deploy.network_file import NetworkFile
from deploy.node.settings import load_settings
from rollups.settings import RollupSettings
from sequencer.settings import SequencerSettings
from tests.documented import BRIDGE, DEPLOY, ROLLUPS, ROOT, SEQUENCER, TABLES, all_failpoints, found_in

GUIDES = (SEQUENCER, ROLLUPS, BRIDGE, DEPLOY)

PAGES = (ROOT / "README.md", *GUIDES)
"""The guides, and the page that leads to them."""

EXAMPLE = re.compile(
    r"<!-- example: (?P<name>[a-z-]+) -->\n```(?P<language>\w+)\n(?P<code>.*?)```\n", re.DOTALL
)

EXAMPLE_MS_MAX = 60_000


def examples() -> dict[str, str]:
    """Return every example of the guides by its name."""
    found: dict[str, str] = {}
    for guide in PAGES:
        for match in EXAMPLE.finditer(guide.read_text()):
            assert match["name"] not in found, "each name is used once"
            found[match["name"]] = match["code"]
    return found


def test_every_python_block_of_a_guide_is_an_example() -> None:
    for guide in PAGES:
        assert guide.read_text().count("```python\n") == len(
            [each for each in EXAMPLE.finditer(guide.read_text()) if each["language"] == "python"]
        ), f"{guide}: a block that no test runs"


# --- tables -----------------------------------------------------------------------------------------------

MADE = [(path, name) for path, tables in TABLES.items() if path in GUIDES for name in tables]


@pytest.mark.parametrize(("path", "name"), MADE, ids=[f"{path.parent.name}: {name}" for path, name in MADE])
def test_a_table_is_current(path: Path, name: str) -> None:
    assert found_in(path.read_text(), name) == TABLES[path][name](), "run python -m tests.documented"


SETTINGS: dict[Path, list[type[msgspec.Struct]]] = {
    SEQUENCER: [SequencerSettings],
    ROLLUPS: [RollupSettings],
    BRIDGE: [BridgeSettings, SettlementSettings],
    DEPLOY: [NetworkFile],
}
"""What the settings files of each guide are for, in order."""


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.parent.name)
def test_a_settings_file_is_one(guide: Path, tmp_path: Path) -> None:
    files = re.findall(r"```toml\n(.*?)```\n", guide.read_text(), re.DOTALL)
    for kind, text in zip(SETTINGS[guide], files, strict=True):
        file = tmp_path / "settings.toml"
        file.write_text(text)
        settings = load_settings(kind, file, {})
        read = msgspec.structs.asdict(settings)
        assert read.get("data", tmp_path / "data") == tmp_path / "data"
        assert read["genesis"].parent == tmp_path, "paths are relative to the file"


def test_every_failpoint_stands_in_one_table() -> None:
    rows = "".join(
        make() for tables in TABLES.values() for name, make in tables.items() if "failpoints" in name
    )
    documented = re.findall(r"^\| `([a-z0-9_.]+)`", rows, re.MULTILINE)
    assert sorted(documented) == sorted(all_failpoints())
    assert len(documented) > 30


def test_every_event_that_warns_stands_in_a_table() -> None:
    warning = re.compile(r"\.(?:warning|error|exception)\(\s*\"([a-z_]+)\"")
    sources = [
        file
        for folder in ("sequencer", "rollups", "bridge", "deploy/node")
        for file in (ROOT / folder).rglob("*.py")
    ]
    logged = {event for file in sources for event in warning.findall(file.read_text())}
    row = re.compile(r"^\| `([a-z_]+)` \| (?:error|warning) \|", re.MULTILINE)
    documented = {event for guide in GUIDES for event in row.findall(guide.read_text())}
    assert documented == logged, "say what it means in the guide's table of log events"
    assert len(logged) > 15


# --- names and links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", PAGES, ids=lambda guide: guide.parent.name)
def test_what_a_guide_links_to_is_there(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", guide.read_text()):
        file, _, anchor = target.partition("#")
        page = (guide.parent / file).resolve() if file else guide
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            assert anchor in map(_anchor, headings), target


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("guide", PAGES, ids=lambda guide: guide.parent.name)
def test_what_a_guide_names_exists(guide: Path) -> None:
    prose = re.sub(r"```.*?```", "", guide.read_text(), flags=re.DOTALL)
    failpoints = all_failpoints()
    dotted = re.findall(r"`((?:lockstep|sequencer|rollups|bridge|deploy)(?:\.\w+)+)`", prose)
    files = {name for name in dotted if name.endswith((".sqlite", ".toml"))}
    for name in set(dotted) - set(failpoints) - files:
        assert _resolves(name), name
    for file in set(re.findall(r"`((?:protos|sequencer|rollups|bridge|deploy|tests)/[\w/.]*)`", prose)):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("guide", PAGES, ids=lambda guide: guide.parent.name)
def test_what_a_guide_types_can_be_typed(guide: Path) -> None:
    typed = set(re.findall(r"\blockstep ([a-z]+)(?: ([a-z]+))?\b", guide.read_text()))
    assert typed
    context = click.Context(main)
    for name, command in typed:
        found = main.get_command(context, name)
        assert found is not None, name
        assert not isinstance(found, click.Group) or command in ("", *found.list_commands(context)), command


def _resolves(name: str) -> bool:
    """Answer whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_checks_of_names_can_fail() -> None:
    assert _resolves("lockstep.register.apply_block")
    assert not _resolves("lockstep.register.no_such_thing")
    assert not _resolves("lockstep.no_such_module")


# --- examples ---------------------------------------------------------------------------------------------

Check = Callable[[str], None]


def _follow(said: str) -> None:
    [place] = re.findall(r"^ordered at (\d+:\d+)$", said, re.MULTILINE)
    assert f"alpha has b'any bytes' at {place}\n" in said
    assert re.search(r"^register root [0-9a-f]{64} at log time \d+$", said, re.MULTILINE)


def _transfer(said: str) -> None:
    assert re.fullmatch(r"OK at \d+:\d+\nthe recipient has 500\n", said), said


def _swap(said: str) -> None:
    assert re.search(r"^LOCKED\nescrow proven\nrevealed\nCOMMITTED$", said, re.MULTILINE), said
    assert said.endswith("COMMITTED 500 gold\nCOMMITTED 750 silver\n"), said


def _quotes(said: str) -> None:
    assert said == "offered: 750 silver\nCOMMITTED\n"


def _audit(said: str) -> None:
    found = re.fullmatch(r"(\d+) entries hold, headers are anchored up to (\d+)\nevidence: 0\n", said)
    assert found is not None, said
    assert int(found[1]) > 1


def _operator(said: str) -> None:
    heights = re.findall(r"^block (\d+): \d+ transactions of alpha, and no other$", said, re.MULTILINE)
    assert heights
    assert list(map(int, heights)) == list(range(1, len(said.splitlines()) + 1))


def _nothing(said: str) -> None:
    assert said == ""


def _names_hold(said: str) -> None:
    assert said == "names hold\n"


def _key(network: Network, trader: str) -> str:
    return str(network.folder / "keys" / f"{trader}.pem")


Arguments = Callable[[Network], tuple[str, ...]]

RUN: dict[str, tuple[Arguments, Check]] = {
    "follow": (lambda network: (network.address("sequencer"),), _follow),
    "transfer": (
        lambda network: (network.address("sequencer"), network.address("alpha-0"), _key(network, "alice")),
        _transfer,
    ),
    "swap": (
        lambda network: (
            network.address("bridge"),
            network.address("sequencer"),
            network.address("alpha-0"),
            network.address("beta-0"),
            _key(network, "alice"),
            _key(network, "bob"),
        ),
        _swap,
    ),
    "quotes": (
        lambda network: (network.address("bridge"), _key(network, "alice"), _key(network, "bob")),
        _quotes,
    ),
    "audit": (lambda network: (network.address("settlement"),), _audit),
    "operator": (lambda network: (network.address("sequencer"),), _operator),
    "names": (lambda network: (), _nothing),
    "names-test": (lambda network: (), _names_hold),
}
"""Each example: its arguments after the genesis file, and what it must say."""


def test_every_example_is_run() -> None:
    assert set(examples()) == set(RUN)


@pytest.mark.processes
async def test_the_examples_do_what_the_guides_say(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network")
    async with running(network):
        for name, (arguments, check) in RUN.items():
            script = tmp_path / f"{name}.py"
            script.write_text(examples()[name])
            said = await _run(script, str(network.folder / "genesis.json"), *arguments(network))
            check(said)


async def _run(script: Path, *arguments: str) -> str:
    """Run a script and return what it says. It must end by itself, without an error or a warning."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(script), *arguments),
        cwd=script.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(EXAMPLE_MS_MAX / 1_000):
            said, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, complaints) == (0, b""), complaints.decode()
    return said.decode()
