"""How the links of a run are cut: what was asked for, or what can be done here.

Owns the choice. Namespaces cut as a network does, and cannot delay nor reset; a proxy needs no root.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from deploy.chaos.faults import NETWORK_KINDS, Kind
from deploy.chaos.links.namespaces import why_not
from deploy.chaos.links.proxy import FAIR, Weather
from deploy.chaos.network import Cuts
from deploy.node.failures import SettingsInvalid

BY_PROXY_ALONE: Final = (Kind.DELAY, Kind.RESET)
"""What namespaces cannot do."""


class Links(Protocol):
    """Links that can be disturbed, however."""

    async def become(self, names: Sequence[str], weather: Weather = FAIR, *, is_reset: bool = False) -> None:
        """Disturb links, or let them heal; return when it is done."""


def choose_cuts(
    kinds: Collection[Kind], asked: Cuts | None, *, obstacle: Callable[[], str] = why_not
) -> Cuts:
    """Return how links are cut; None leaves it open: then by namespaces, if that does all of `kinds` here.

    Raises SettingsInvalid if it was asked for namespaces and there can be none.
    """
    if not set(kinds) & set(NETWORK_KINDS):
        return Cuts.NONE
    if asked is Cuts.NAMESPACES and (reason := obstacle()):
        raise SettingsInvalid(f"links cannot be cut by namespaces: {reason}; use --cuts proxy")
    if asked is not None:
        return asked
    return Cuts.PROXY if set(kinds) & set(BY_PROXY_ALONE) or obstacle() else Cuts.NAMESPACES
