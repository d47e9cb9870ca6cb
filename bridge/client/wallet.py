"""The trader's wallet: his own record of each swap, durable before anything is sent.

Owns a folder with one file for each swap and account, `SWAP-ACCOUNT.json` (the account's first 16 digits).
With the key and this folder, a trader who was killed at any point goes on where he was. Holds no private key
and no preimage: a preimage is derived from the key and the terms. Invariants:

- a file is replaced whole or not at all, and is on disk when a call returns;
- several processes may use one folder: each change is made under the folder's lock, to what is there then.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bridge.client.recorded import RecordedSwap, decode_recorded, encode_recorded, verify_grown
from deploy.node.datadir import FileLock, make_folder, sync_folder, write_atomically
from deploy.node.failures import DataLocked, DataRefused, StorageFailed
from lockstep.errors import Malformed
from lockstep.types import PublicKey, SwapId

LOCK_WAIT_MS: Final = 10_000
"""How long a change waits for another process's, which takes milliseconds."""

_LOCK_POLL_MS: Final = 5


class Wallet:
    """The folder. Calls block for a sync of a few milliseconds."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made when something is first written."""
        self.folder = folder
        """Where the files are."""
        self._is_made = False
        self._is_synced = False

    def add(self, swap: RecordedSwap) -> RecordedSwap:
        """Record a swap, unless it is recorded already, and return what is there.

        Raises DataRefused, DataLocked or StorageFailed.
        """
        with self._locked():
            found = self.get(swap.swap_id, swap.account)
            if found is None:
                write_atomically(self._path(swap.swap_id, swap.account), encode_recorded(swap))
            else:
                self._sync()
            return found or swap

    def change(self, swap: RecordedSwap, change: Callable[[RecordedSwap], RecordedSwap]) -> RecordedSwap:
        """Change what is on disk of a recorded swap, and return it as it is then. Raises as `add`."""
        with self._locked():
            found = self.get(swap.swap_id, swap.account) or swap
            changed = change(found)
            verify_grown(found, changed)
            if changed != found:
                write_atomically(self._path(swap.swap_id, swap.account), encode_recorded(changed))
            else:
                self._sync()
            return changed

    def get(self, swap_id: SwapId, account: PublicKey) -> RecordedSwap | None:
        """Return an account's record of a swap; None if there is none.

        Raises DataRefused or StorageFailed.
        """
        self._sync_once()
        path = self._path(swap_id, account)
        return _load(path) if path.exists() else None

    def swaps(self, account: PublicKey | None = None) -> tuple[RecordedSwap, ...]:
        """Return what is recorded, of one account or all, the newest terms first. Raises as `get`."""
        self._sync_once()
        found = map(_load, sorted(self.folder.glob("*-*.json")))
        chosen = [swap for swap in found if account in (None, swap.account)]
        return tuple(sorted(chosen, key=lambda swap: -swap.terms.lock_by_ms))

    def _sync_once(self) -> None:
        if not self._is_synced and self.folder.exists():
            self._sync()
            self._is_synced = True

    def _sync(self) -> None:
        """See to it that what was read is on disk: who wrote it may have been killed before it was."""
        try:
            sync_folder(self.folder)
        except OSError as error:
            raise StorageFailed(
                f"{self.folder} could not be synced: {error.strerror}; mend the disk and try again"
            ) from error

    def _path(self, swap_id: SwapId, account: PublicKey) -> Path:
        return self.folder / f"{swap_id.hex()}-{account.hex()[:16]}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            # Once is enough: what is synced then is the folder's own name.
            if not self._is_made or not self.folder.exists():
                make_folder(self.folder)
                self._is_made = True
        except OSError as error:
            raise StorageFailed(
                f"{self.folder} cannot be made: {error.strerror}; name a folder for the wallet"
            ) from error
        lock = _lock_patiently(self.folder / "lock")
        try:
            yield
        finally:
            lock.close()


def _load(path: Path) -> RecordedSwap:
    advice = "put it back from a copy, or move it away: the order knows every swap that was opened"
    try:
        swap = decode_recorded(path.read_bytes())
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}; {advice}") from error
    except Malformed as error:
        raise DataRefused(f"{path}: {error.fields['field']} {error.fields['reason']}; {advice}") from error
    if path.name != f"{swap.swap_id.hex()}-{swap.account.hex()[:16]}.json":
        raise DataRefused(f"{path} holds another swap than its name says; {advice}")
    return swap


def _lock_patiently(path: Path) -> FileLock:
    """Take a lock that others hold for moments. Raises DataLocked after LOCK_WAIT_MS, or StorageFailed."""
    deadline_s = time.monotonic() + LOCK_WAIT_MS / 1_000
    while True:
        try:
            return FileLock(path)
        except DataLocked:
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(_LOCK_POLL_MS / 1_000)
