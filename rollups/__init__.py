"""The rollups: runtime and modules, state trees, following the order, the node service, and its client."""
