"""Whether a devnet's processes run, by the locks of their data, which end with them."""

from deploy.devnet.clients import until
from deploy.devnet.network import PROCESS_NAMES, Network
from deploy.node.datadir import FileLock
from deploy.node.failures import DataLocked


def is_held(network: Network, name: str) -> bool:
    """Whether a process has the data of `name`. Tells a zombie from a process, which a pid does not."""
    lock = network.data_folder(name) / "lock"
    if not lock.exists():
        return False
    try:
        FileLock(lock).close()
    except DataLocked:
        return True
    return False


async def all_let_go(network: Network) -> None:
    """Wait until no process has its data."""

    async def look() -> bool | None:
        return None if any(is_held(network, name) for name in PROCESS_NAMES) else True

    await until(look, "all processes to end")
