"""Names for the bytes and numbers that travel between processes.

Owns the `NewType`s that keep one kind of 32 bytes from being passed for another. They cost nothing at run
time and check nothing; decoders check.
"""

from typing import Final, NewType

__pure__ = True

ChainId = NewType("ChainId", bytes)
"""32 bytes: the hash of the genesis file, inside everything signed."""

HeaderHash = NewType("HeaderHash", bytes)
"""32 bytes: the hash of a header; the chain id stands for the block before height 1."""

BundleId = NewType("BundleId", bytes)
"""32 bytes: the hash of a bundle's chain, window and transaction hashes."""

TransactionHash = NewType("TransactionHash", bytes)
"""32 bytes: the order's hash of `(namespace, payload)`."""

TransactionId = NewType("TransactionId", bytes)
"""32 bytes: the hash of a rollup transaction's body, its signature left out."""

SwapId = NewType("SwapId", bytes)
"""32 bytes: the hash of a swap's terms."""

PublicKey = NewType("PublicKey", bytes)
"""32 bytes: an Ed25519 public key."""

Signature = NewType("Signature", bytes)
"""64 bytes: an Ed25519 signature."""

Namespace = NewType("Namespace", str)
"""A rollup id (`[a-z0-9-]{1,32}`) or one of the system namespaces."""

RollupId = NewType("RollupId", str)
"""The namespace of a rollup."""

Height = NewType("Height", int)
"""A block's number; the first block has height 1, the genesis stands at 0."""

SWAP_NAMESPACE: Final = Namespace("_swap")
REGISTRY_NAMESPACE: Final = Namespace("_registry")
LOG_NAMESPACE: Final = Namespace("_log")
SYSTEM_NAMESPACES: Final = frozenset((SWAP_NAMESPACE, REGISTRY_NAMESPACE, LOG_NAMESPACE))
"""The namespaces that every process understands; all others belong to rollups."""
