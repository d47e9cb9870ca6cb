"""The bridge: quotes, driving swaps, receipts and the traders' client; beside it the settlement log."""
