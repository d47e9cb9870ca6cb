"""What the calling process syncs, by name, for tests of what is on disk before it is relied upon."""

import os
from pathlib import Path

import pytest


def watch_syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of every file and folder is added that is synced from now on."""
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        sync = getattr(os, name)

        def note(descriptor: int, sync: object = sync) -> None:
            assert callable(sync)
            sync(descriptor)
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

        monkeypatch.setattr(os, name, note)
    return synced
