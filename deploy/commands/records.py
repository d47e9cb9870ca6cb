"""The folder of a trader's own records, as the commands use it.

Owns how it is made: readable by its owner alone, all the way down.
"""

from pathlib import Path

from deploy.node.failures import StorageFailed


def record_file(wallet: Path, *parts: str) -> Path:
    """Return the path of a record in the wallet, with the folders that it needs. Raises StorageFailed."""
    file = wallet.joinpath(*parts)
    try:
        wallet.parent.mkdir(parents=True, exist_ok=True)
        for folder in reversed([each for each in file.parents if each.is_relative_to(wallet)]):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"{file.parent} cannot be made: {error.strerror}; name a wallet in which you may write"
        ) from error
    return file
