"""Which key a role had at which height, for those who follow the order and verify what is signed.

Owns the memory that a registry, which is of one height, does not have. Invariant: what is answered for a
height that was followed is what the registry of that height said.
"""

from bisect import bisect_right

from lockstep.registry import Registry, role_key_at
from lockstep.types import Height, PublicKey

__pure__ = True


class KeyHistory:
    """The keys of one role, as far as the order was followed."""

    def __init__(self, role: str, registry: Registry, height: int) -> None:
        """Start at the registry after the block at `height`; what was before it is taken to be the same."""
        self._role = role
        self._registry = registry
        self._height = height
        self._since: list[int] = [0]
        self._keys: list[PublicKey] = [registry.keys[role]]

    def follow(self, registry: Registry, height: int) -> None:
        """Go on to the registry after the next block, which is at `height`."""
        assert height == self._height + 1, f"block {height} does not follow {self._height}"
        if registry.keys[self._role] != self._keys[-1]:
            # A key takes over in the block in which its change takes effect.
            self._since.append(height)
            self._keys.append(registry.keys[self._role])
        self._registry = registry
        self._height = height

    def at(self, height: Height) -> PublicKey:
        """Return the key at a height; ahead of what was followed, as far as changes are pending already."""
        if height > self._height:
            return role_key_at(self._registry, self._role, height)
        return self._keys[bisect_right(self._since, height) - 1]
