"""Mappings that never change: a changed one is made from the one before, at the cost of what changed.

Owns how such mappings share what they have in common: a base that many of them stand on, and over it, in each
its own, what is different there. Invariant: in content and order each is the `dict` that the same changes
lead to, in which what is put anew under a key stays in its place, and what was not there comes last.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import isqrt
from typing import Final, Generic, TypeVar, overload

__pure__ = True

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Default = TypeVar("_Default")

_DIFFERENCES_MIN: Final = 64
"""Differences from its base that a mapping may always have."""


class LayeredMap(Mapping[_Key, _Value], Generic[_Key, _Value]):
    """An ordered mapping that never changes; `changed` makes another.

    A mapping of n keys has some square root of n differences from its base: `changed` copies these, and now
    and then everything, into a base of its own.
    """

    __slots__ = ("_base", "_gone", "_length", "_put")

    def __init__(self, content: Mapping[_Key, _Value] | None = None) -> None:
        """Hold what `content` holds, in its order."""
        self._base: dict[_Key, _Value] = dict(content or {})
        # What was put over the base, and the base's keys that are not, or no longer, at their place in it.
        self._put: dict[_Key, _Value] = {}
        self._gone: set[_Key] = set()
        self._length = len(self._base)

    def changed(
        self, *, removed: Iterable[_Key] = (), put: Mapping[_Key, _Value] | None = None
    ) -> "LayeredMap[_Key, _Value]":
        """Return the mapping without some of its keys, in which then values were put under others.

        KeyError if a key that is removed is not there.
        """
        changed: LayeredMap[_Key, _Value] = LayeredMap.__new__(LayeredMap)
        changed._base, changed._put, changed._gone = self._base, dict(self._put), set(self._gone)
        changed._length = self._length
        for key in removed:
            changed._remove(key)
        for key, value in (put or {}).items():
            changed._length += key not in changed
            changed._put[key] = value
        if len(changed._put) + len(changed._gone) > _DIFFERENCES_MIN + 4 * isqrt(len(changed._base)):
            changed._settle()
        return changed

    def __getitem__(self, key: _Key) -> _Value:
        if key in self._put:
            return self._put[key]
        if key in self._gone:
            raise KeyError(key)
        return self._base[key]

    @overload
    def get(self, key: _Key, /) -> _Value | None: ...
    @overload
    def get(self, key: _Key, /, default: _Value | _Default) -> _Value | _Default: ...
    def get(self, key: _Key, /, default: _Value | _Default | None = None) -> _Value | _Default | None:
        """Return the value under a key, or the default."""
        if key in self._put:
            return self._put[key]
        return default if key in self._gone else self._base.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._put or (key in self._base and key not in self._gone)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[_Key]:
        yield from (key for key in self._base if key not in self._gone)
        yield from (key for key in self._put if self._is_last(key))

    def __reversed__(self) -> Iterator[_Key]:
        yield from (key for key in reversed(self._put) if self._is_last(key))
        yield from (key for key in reversed(self._base) if key not in self._gone)

    def _is_last(self, key: _Key) -> bool:
        """Answer whether what was put under a key stands behind what is in the base."""
        return key in self._gone or key not in self._base

    def _remove(self, key: _Key) -> None:
        if key not in self:
            raise KeyError(key)
        self._put.pop(key, None)
        if key in self._base:
            self._gone.add(key)
        self._length -= 1

    def _settle(self) -> None:
        """Make a base of one's own."""
        base = dict(self._base)
        for key in self._gone:
            del base[key]
        base.update(self._put)
        self._base, self._put, self._gone = base, {}, set()
