"""The settlement log: an append-only Merkle log of headers, commitments and evidence, and its client."""
