"""The sequencer: admission, block building, the ledger, ordering engines, streams, and its client."""
