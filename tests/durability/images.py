"""What a disk may hold after the power went: images, made from the recorded calls of a run.

Owns the model; reads no record and opens no database. Pure but for `Image.write`. A name is looked up at each
call, so that a file which was unlinked and made again is two files. Two models of what a sync promises:

- ORDERED, as ext4 in its usual mode: names change in order, and any sync makes all name changes before it
  durable; contents that were not synced are there or not, in any subset, torn between sectors.
- STRICT, what POSIX says and no more: a sync of a file makes its contents durable and nothing else; a name is
  durable once its folder is synced, until then each change of a name happened or did not.

A write that is lost in the middle of a file leaves zeros, as a hole does.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.tools.shim import Call, Operation

TORN_UNITS: Final = (512, 4_096)
"""Bytes that are written whole or not at all: a sector, a page."""


class Model(Enum):
    """What a sync promises."""

    ORDERED = "ordered"
    STRICT = "strict"


Change = Call
"""A write or a truncation of a file that is not synced, or a change of a name."""


@dataclass(frozen=True)
class Image:
    """What is found after the power came back."""

    folders: frozenset[Path]
    """Folders that are there."""
    files: dict[Path, bytes]
    """Files that are there, with their contents."""

    def write(self, source: Path, target: Path) -> None:
        """Put it on a disk; what was recorded below `source` goes below `target`."""
        for folder in sorted(self.folders):
            (target / folder.relative_to(source)).mkdir(parents=True, exist_ok=True)
        for path, contents in self.files.items():
            (target / path.relative_to(source)).write_bytes(contents)


class _File:
    """The contents of a file: what is durable, and what was done since."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[Change] = []

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change, 0, len(change.data))
        self.pending = []

    def image(self, choice: "_Choice") -> bytes:
        """Return the contents of an image: each change that is not synced was made, torn, or not made."""
        if not self.pending:
            return bytes(self.durable)
        contents = bytearray(self.durable)
        for change in self.pending:
            for start, end in choice.parts(change):
                _apply(contents, change, start, end)
        return bytes(contents)


class _Choice:
    """What of the changes that were not synced is on an image; one style for each image."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kept = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        self._torn = chance.choice((0.0, 0.0, 0.5))
        self._unit = chance.choice(TORN_UNITS)

    def is_kept(self) -> bool:
        return self._chance.random() < self._kept

    def upto(self, count: int) -> int:
        return self._chance.randint(0, count)

    def parts(self, change: Change) -> list[tuple[int, int]]:
        """Return which parts of a change were made, as ranges of its bytes."""
        size = len(change.data)
        if size > self._unit and self._chance.random() < self._torn:
            first = self._unit - change.offset % self._unit
            edges = [0, *range(first, size, self._unit), size]
            return [part for part in pairwise(edges) if self.is_kept()]
        return [(0, size)] if self.is_kept() else []


class Disk:
    """What is durable after some calls, and what may be."""

    def __init__(self, root: Path, model: Model) -> None:
        """Start with the empty folder `root`, which is durable."""
        self._root = root
        self._model = model
        self._now: dict[Path, _File | None] = {}
        self._durable: dict[Path, _File | None] = {}
        self._renamings: list[tuple[Path, Callable[[dict[Path, _File | None]], None]]] = []

    def apply(self, call: Call) -> None:
        """Take in the next call of the run."""
        match call.operation:
            case Operation.WRITE | Operation.TRUNCATE:
                file = self._now.get(call.path)
                # What has no name any more is on no image.
                if file is not None:
                    file.pending.append(call)
            case Operation.SYNC:
                self._sync(call.path)
            case Operation.CREATE:
                self._create(call)
            case Operation.MKDIR:
                self._rename(call.path, lambda names: names.__setitem__(call.path, None))
            case Operation.RENAME:
                self._rename(call.path, lambda names: _move(names, call.path, call.target))
            case Operation.LINK:
                linked = self._now[call.path]
                self._rename(call.target, lambda names: names.__setitem__(call.target, linked))
            case Operation.UNLINK:
                self._rename(call.path, lambda names: _remove(names, call.path))
            case Operation.MARK:
                raise ValueError("a mark is no call")

    def image(self, chance: random.Random) -> Image:
        """Return what the power might leave if it went now."""
        choice = _Choice(chance)
        names = dict(self._durable)
        if self._model is Model.ORDERED:
            made = self._renamings[: choice.upto(len(self._renamings))]
        else:
            made = [renaming for renaming in self._renamings if choice.is_kept()]
        for _, rename in made:
            rename(names)
        return self._reachable(names, choice)

    def whole(self) -> Image:
        """Return what is there if nothing is lost: what a process that is killed leaves."""
        for file in self._now.values():
            if file is not None:
                file.sync()
        return self._reachable(self._now, _Choice(random.Random(0)))

    def _reachable(self, names: dict[Path, "_File | None"], choice: _Choice) -> Image:
        folders = {self._root}
        for path in sorted(path for path, file in names.items() if file is None):
            if path.parent in folders:
                folders.add(path)
        files = {
            path: file.image(choice)
            for path, file in names.items()
            if file is not None and path.parent in folders
        }
        return Image(frozenset(folders), files)

    def _create(self, call: Call) -> None:
        """Make a file; one that is there under the name is emptied."""
        there = self._now.get(call.path)
        if there is not None:
            there.pending.append(Call(Operation.TRUNCATE, call.path, call.inode, 0, b""))
            return
        made = _File()
        self._rename(call.path, lambda names: names.__setitem__(call.path, made))

    def _rename(self, path: Path, rename: Callable[[dict[Path, "_File | None"]], None]) -> None:
        rename(self._now)
        self._renamings.append((path.parent, rename))

    def _sync(self, path: Path) -> None:
        file = self._now.get(path)
        if file is not None:
            file.sync()
        is_made = self._model is Model.ORDERED
        for folder, rename in self._renamings:
            if is_made or folder == path:
                rename(self._durable)
        self._renamings = [] if is_made else [each for each in self._renamings if each[0] != path]


def _remove(names: dict[Path, "_File | None"], path: Path) -> None:
    names.pop(path, None)


def _move(names: dict[Path, "_File | None"], source: Path, target: Path) -> None:
    # The source may be missing where its making was not durable.
    if source in names:
        names[target] = names.pop(source)


def _apply(contents: bytearray, change: Change, start: int, end: int) -> None:
    """Make a part of a change to a file."""
    if change.operation is Operation.TRUNCATE:
        del contents[change.offset :]
        contents.extend(bytes(change.offset - len(contents)))
        return
    offset = change.offset + start
    contents.extend(bytes(max(0, offset - len(contents))))
    contents[offset : offset + end - start] = change.data[start:end]
