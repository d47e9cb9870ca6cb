"""What happens to a process's data: it is lost, copied, and an older copy put back. The process is dead then.

Owns the folders beside the process's own, `NAME.older` and `NAME.newest`.
"""

import shutil
from pathlib import Path

from deploy.devnet.network import Network


class Disk:
    """The data folder of one process."""

    def __init__(self, network: Network, name: str) -> None:
        self._folder = network.data_folder(name)
        self._older = self._beside("older")
        self._newest = self._beside("newest")

    def lose(self) -> None:
        """Delete it."""
        shutil.rmtree(self._folder)

    def copy(self) -> None:
        """Keep a copy of how it is now."""
        shutil.rmtree(self._older, ignore_errors=True)
        shutil.copytree(self._folder, self._older)

    def put_back_older(self) -> None:
        """Put the copy in its place, and the newest aside."""
        self._folder.rename(self._newest)
        self._older.rename(self._folder)

    def put_back_newest(self) -> None:
        """Put the newest in its place again."""
        shutil.rmtree(self._folder)
        self._newest.rename(self._folder)

    def forget_newest(self) -> None:
        """Delete the newest: what was put back stays."""
        shutil.rmtree(self._newest)

    def _beside(self, what: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{what}")
