"""Every bound of the protocol, with its unit, in one place.

A number here is part of the protocol unless its text says "policy": two processes that disagree on a
protocol bound disagree on the order's meaning. Relations between bounds are asserted at import.
"""

from typing import Final

__pure__ = True

# --- the order --------------------------------------------------------------------------------------------

NAMESPACE_BYTES_MAX: Final = 32
"""Bytes of a namespace's name."""

PAYLOAD_BYTES_MAX: Final = 64 * 1024
"""Bytes of one transaction's payload."""

BUNDLE_TRANSACTIONS_MAX: Final = 32
"""Transactions of one bundle."""

BUNDLE_BYTES_MAX: Final = 256 * 1024
"""Bytes of all payloads of one bundle."""

BLOCK_BYTES_MAX: Final = 2 * 1024 * 1024
"""Bytes of all encoded entries of one block, so that a block fits one message with room to spare."""

BLOCK_TRANSACTIONS_MAX: Final = 16_384
"""Transactions of one block."""

BLOCK_NAMESPACES_MAX: Final = 1_024
"""Namespaces with entries in one block."""

VALIDITY_WINDOW_MS_MAX: Final = 600_000
"""How far, in log time, `valid_until_ms` may lie ahead of the ordering block, for bundles and rollup
transactions alike."""

VALIDITY_WINDOW_MS_DEFAULT: Final = 30_000
"""Policy: the window that clients ask for when nobody says otherwise."""

MAX_ADVANCE_MS: Final = 2_000
"""The most by which log time advances from one block to the next."""

HEARTBEAT_MS_DEFAULT: Final = 250
"""Policy: an idle sequencer makes an empty block after this long."""

MESSAGE_BYTES_MAX: Final = 3 * 1024 * 1024
"""Bytes of any gRPC message."""

LIVE_BUNDLE_IDS_MAX: Final = 16_000_000
"""Policy: bundle ids remembered at a time; beyond it the sequencer refuses."""

# --- swaps ------------------------------------------------------------------------------------------------

LEGS_MIN: Final = 2
LEGS_MAX: Final = 16
"""Legs of one swap."""

PARTY_BYTES_MAX: Final = 64
"""Bytes of a leg's sender or recipient, read by its rollup alone."""

ASSET_BYTES_MAX: Final = 32
"""Bytes of an asset's name."""

PREMIUM_RECIPIENTS_MAX: Final = 16
"""Recipients among whom one premium is divided."""

PREIMAGE_BYTES: Final = 32
"""Bytes of a preimage: exactly this many, on every rollup."""

AMOUNT_MAX: Final = 2**128 - 1
"""The largest amount, balance and supply of an asset, in base units."""

LOCK_WINDOW_MS_MAX: Final = 60_000
"""How far ahead of the opening block `lock_by_ms` may lie."""

REVEAL_WINDOW_MS_MIN: Final = 5_000
"""The least time between `lock_by_ms` and `expires_ms`."""

EXPIRY_MS_MAX: Final = 86_400_000
"""How far ahead of the opening block `expires_ms` may lie."""

REGISTER_RECORDS_MAX: Final = 65_536
"""Records that the register holds."""

HEADERS_REMEMBERED: Final = 4_096
"""Header hashes that the register keeps for judging attestations."""

ATTESTATIONS_REMEMBERED: Final = 16_384
"""Attestations that the register keeps whole, to show one beside another that contradicts it. No rule depends
on it."""

ATTESTATION_ITEMS_MAX: Final = 1_024
"""Verdicts under one attestation's signature."""

ATTESTERS_MAX: Final = 16
"""Keys of one attester set."""

DRAIN_MS_MIN: Final = 86_400_000
"""A draining rollup leaves no sooner than this much log time after it began to drain."""

# --- rollups ----------------------------------------------------------------------------------------------

MEMO_BYTES_MAX: Final = 64
"""Bytes of a transfer's memo."""

OPEN_LOCKS_PER_ACCOUNT_DEFAULT: Final = 1_024
"""A rollup's limit of open locks per account when its genesis names none."""

assert BUNDLE_TRANSACTIONS_MAX * 128 < BUNDLE_BYTES_MAX < BLOCK_BYTES_MAX < MESSAGE_BYTES_MAX
assert PAYLOAD_BYTES_MAX <= BUNDLE_BYTES_MAX
assert LOCK_WINDOW_MS_MAX + REVEAL_WINDOW_MS_MIN <= EXPIRY_MS_MAX
assert LOCK_WINDOW_MS_MAX <= VALIDITY_WINDOW_MS_MAX
assert 2 * MAX_ADVANCE_MS < REVEAL_WINDOW_MS_MIN, "a lock deadline is always seen before its swap's expiry"
