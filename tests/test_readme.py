"""The README's tour: what it types is run, and says what the README shows.

The blocks are fenced as `console`. A line that begins with `$ ` is typed, in one folder and one after the
other; the lines below it are what comes out. Where a run differs from the one that was written down, it may
differ in this: a number without a decimal point is any number, 8 or more hex digits are any such, `…` is
anything within a line, a line of `…` alone is any lines, and columns may be wider. Hex digits that were
shown stand, when they or a beginning of them are typed later, for what came out in their place.
"""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.documented import ROOT

README = ROOT / "README.md"

COMMAND_MS_MAX = 60_000

HEX = re.compile(r"\b[0-9a-f]{8,}\b")
TOKEN = re.compile(r"\b[0-9a-f]{8,}\b|(?<![\d.])\d+(?![\d.]*\d)|…| +")


@dataclass(frozen=True)
class Typed:
    """A command of the tour."""

    command: str
    """As it is typed; it may go over several lines."""
    shown: tuple[str, ...]
    """The lines that the README shows below it."""


def typed_in(page: str) -> Iterator[Typed]:
    """Yield the commands of a page's console blocks."""
    for block in re.findall(r"```console\n(.*?)```\n", page, re.DOTALL):
        assert block.startswith("$ "), "a block begins with what is typed"
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            last = next(place for place, line in enumerate(lines) if not line.endswith("\\"))
            shown = tuple(line for line in lines[last + 1 :] if line.strip())
            yield Typed("\n".join(lines[: last + 1]), shown)


def pattern_of(line: str) -> str:
    """Return the pattern of the lines that may come out where the README shows `line`."""

    def pattern(token: re.Match[str]) -> str:
        match token[0]:
            case "…":
                return ".*?"
            case spaces if not spaces.strip():
                return " +"
            case hexadecimal if HEX.fullmatch(hexadecimal):
                return "([0-9a-f]{8,})"
            case _:
                return r"\d+"

    parts, end = [], 0
    for token in TOKEN.finditer(line):
        parts += [re.escape(line[end : token.start()]), pattern(token)]
        end = token.end()
    return "".join(parts) + re.escape(line[end:])


def compare(shown: tuple[str, ...], said: str) -> dict[str, str]:
    """Check that what was said is what is shown, and return what came out for each run of hex digits."""
    wanted = "\n".join(r"(?s:.*)" if line == "…" else pattern_of(line) + " *" for line in shown)
    found = re.fullmatch(wanted, "\n".join(line for line in said.splitlines() if line.strip()))
    assert found is not None, "\n".join(("the README shows", *shown, "and this came out:", said))
    names = [name for line in shown if line != "…" for name in HEX.findall(line)]
    return dict(zip(names, found.groups(), strict=True))


def substitute(command: str, names: dict[str, str]) -> str:
    """Return a command with what came out in place of what the README shows."""
    for shown, came in names.items():
        for typed in set(re.findall(rf"\b{shown[:8]}[0-9a-f]*\b", command)):
            command = command.replace(typed, came[: len(typed)])
    return command


async def _say(command: str, folder: Path) -> str:
    """Run what is typed and return what comes out."""
    scripts = str(Path(sys.executable).parent)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("LOCKSTEP_")}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        cwd=folder,
        env={**environ, "PATH": os.pathsep.join((scripts, os.environ["PATH"]))},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_MS_MAX / 1_000):
            said, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"$ {command}\n{said.decode()}\n{complaints.decode()}"
    return said.decode()


@pytest.mark.processes
async def test_the_tour_goes_as_the_readme_shows(tmp_path: Path) -> None:
    tour = list(typed_in(README.read_text()))
    assert len(tour) > 10, "there is a tour"
    names: dict[str, str] = {}
    try:
        for typed in tour:
            said = await _say(substitute(typed.command, names), tmp_path)
            if typed.shown:
                names |= compare(typed.shown, said)
    finally:
        await _say("lockstep devnet down || true", tmp_path)


def test_a_tour_that_goes_otherwise_is_found() -> None:
    shown = ("swap 0123456789ab: COMMITTED, after 63 ms", "…", "leg  amount", "0    5.00 gold")
    said = "swap fedcba9876543210: COMMITTED, after 7 ms\nanything\nat all\nleg   amount\n0     5.00 gold\n"
    assert compare(shown, said) == {"0123456789ab": "fedcba9876543210"}
    for wrong in (
        said.replace("COMMITTED", "ABORTED"),
        said.replace("5.00", "5.01"),
        said + "more\n",
        said.replace("swap", "swop"),
    ):
        with pytest.raises(AssertionError):
            compare(shown, wrong)


def test_what_came_out_is_typed() -> None:
    names = {"0123456789abcdef": "fedcba9876543210"}
    assert substitute("accept 01234567 --key bob", names) == "accept fedcba98 --key bob"


def test_commands_and_what_they_say_are_told_apart() -> None:
    page = "text\n```console\n$ one \\\n  more\nsays\n$ two\n```\n"
    assert list(typed_in(page)) == [Typed("one \\\n  more", ("says",)), Typed("two", ())]
