"""A change of the registry: whose key signs it, its way into the order, and what became of it.

Owns the steps. The rules are `lockstep.registry`'s, and are asked before anything is sent: what the chain
would ignore is refused here, in the same words. Sending a change twice is harmless: its sequence number
counts once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.settlement.client import SettlementClient
from deploy.registry.following import Follower
from lockstep import limits
from lockstep.errors import Refused
from lockstep.order import Bundle, Transaction
from lockstep.registry import Outcome, Registry, RegistryEvent, accept
from lockstep.registry_entries import (
    Action,
    Leave,
    RegistryChange,
    RotateAttester,
    RotateKey,
    SignedBy,
    sign_change,
)
from lockstep.settlement_entries import Registration, encode_settlement_entry, registrations_of
from lockstep.signing import SigningKey
from lockstep.types import REGISTRY_NAMESPACE, Height, PublicKey, RollupId
from sequencer.client import Placement, SequencerClient

AHEAD_BLOCKS_DEFAULT: Final = 40
"""How far ahead a change takes effect unless told otherwise: it must be ordered before that, also when blocks
come fast."""


class ChangeRefused(Exception):
    """The change cannot be; the message says why and what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be changed."""

    subject: str
    """A rollup's id, or the name of a role."""
    action: Action
    """What changes."""
    effective_height: Height | None = None
    """From which block on; None: soon."""


@dataclass(frozen=True, slots=True)
class Done:
    """A change that was ordered and accepted."""

    change: RegistryChange
    """What was signed."""
    signed_by: SignedBy
    """In whose name."""
    registration: Registration
    """It, with the proof that it was ordered."""
    placement: Placement
    """Where it stands in the order."""
    outcome: Outcome
    """ACCEPTED, or EFFECTIVE if that was waited for."""
    leaves_ms: int | None
    """For a LEAVE, the log time before which it does not take effect."""
    time_ms: int
    """Log time when this was known."""
    settlement_index: int | None = None
    """Where the settlement log has it; None if that was not asked for."""


def signer_of(registry: Registry, wish: Wish, key: PublicKey) -> SignedBy:
    """Return in whose name a key may sign a change. Raises ChangeRefused."""
    governance = registry.keys["governance"]
    if key == governance:
        return SignedBy.GOVERNANCE
    own = _own_key(registry, wish)
    if own is None:
        raise ChangeRefused(
            f"the key is {key.hex()}, and governance has to sign this, whose key is {governance.hex()}; "
            "name the file of that key with --key"
        )
    if key != own:
        raise ChangeRefused(
            f"the key is {key.hex()}, neither that of governance, {governance.hex()}, nor the one that is "
            f"replaced, {own.hex()}; name the file of one of these with --key"
        )
    return SignedBy.SUBJECT


def make_change(registry: Registry, wish: Wish, signed_by: SignedBy, height: Height) -> RegistryChange:
    """Return the subject's next change as of the block at `height`."""
    ahead = AHEAD_BLOCKS_DEFAULT
    if signed_by is SignedBy.SUBJECT:
        # A key announces its own replacement so far ahead that governance can veto it.
        ahead += registry.rotation_delay_blocks
    return RegistryChange(
        chain=registry.chain_id,
        subject=wish.subject,
        sequence=registry.sequences.get(wish.subject, 0) + 1,
        effective_height=wish.effective_height or Height(height + ahead),
        action=wish.action,
    )


def verify_acceptable(registry: Registry, payload: bytes, height: Height) -> None:
    """Check that the block after `height` would accept an entry. Raises ChangeRefused."""
    _, (event, *_) = accept(registry, height=Height(height + 1), entries=((0, payload),))
    if event.outcome is Outcome.IGNORED:
        raise ChangeRefused(f"the chain would ignore it, because it {event.reason}{_advice(event.reason)}")


async def change_registry(
    follower: Follower, client: SequencerClient, wish: Wish, key: SigningKey, *, wait: bool
) -> Done:
    """Sign a change, have it ordered, and see it accepted; with `wait`, see it take effect.

    `follower` is at the head. Raises ChangeRefused, and LockstepError; after a retryable one the outcome is
    unknown, and the same command tells.
    """
    chain = follower.chain
    signed_by = signer_of(chain.registry, wish, key.public_key)
    change = make_change(chain.registry, wish, signed_by, chain.tip.height)
    payload = sign_change(key, change, signed_by)
    verify_acceptable(chain.registry, payload, chain.tip.height)
    bundle = Bundle(
        (Transaction(REGISTRY_NAMESPACE, payload),), chain.tip.time_ms + limits.VALIDITY_WINDOW_MS_DEFAULT
    )
    try:
        placement = (await client.submit(bundle)).placement
    except Refused as error:
        raise ChangeRefused(f"it was not ordered: {error.message}") from error
    place = (placement.height, placement.first_index)
    event = await _until(follower, lambda each: (each.height, each.index) == place)
    if event.outcome is Outcome.IGNORED:
        raise ChangeRefused(
            f"it was ordered in block {placement.height} and ignored, because it {event.reason}"
            f"{_advice(event.reason)}"
        )
    registration = _newest_registration(follower, placement)
    if wait and event.outcome is Outcome.ACCEPTED:
        event = await _until(follower, lambda each: (each.height, each.index) == place)
        if event.outcome is not Outcome.EFFECTIVE:
            raise ChangeRefused(
                f"it was accepted in block {placement.height} and is {event.outcome.value} now"
            )
    record = chain.registry.rollups.get(RollupId(wish.subject))
    leaves_ms = None
    if isinstance(wish.action, Leave) and record is not None:
        leaves_ms = record.drained_ms + limits.DRAIN_MS_MIN
    return Done(change, signed_by, registration, placement, event.outcome, leaves_ms, chain.tip.time_ms)


async def tell_settlement(log: SettlementClient, done: Done) -> int:
    """Have the settlement log know of a change, and return its index there. Raises LockstepError."""
    return await log.append(encode_settlement_entry(done.registration))


def _newest_registration(follower: Follower, placement: Placement) -> Registration:
    """Return the registration of a change that stands in the newest block."""
    followed = follower.newest
    assert followed is not None, "the block that holds the change was followed"
    entries = followed.block.entries[REGISTRY_NAMESPACE]
    registrations = registrations_of(followed.header, followed.block.leaves, entries)
    return next(each for each in registrations if each.index == placement.first_index)


async def _until(follower: Follower, is_wanted: Callable[[RegistryEvent], bool]) -> RegistryEvent:
    """Follow the order to the first block in which something became of a change, and return what."""
    while True:
        events, _ = await follower.next()
        for event in filter(is_wanted, events):
            return event


def _own_key(registry: Registry, wish: Wish) -> PublicKey | None:
    """Return the key that a change replaces, which may sign it; None if it replaces none."""
    if isinstance(wish.action, RotateKey):
        return registry.keys[wish.subject]
    if isinstance(wish.action, RotateAttester):
        return wish.action.old_key
    return None


def _advice(reason: str) -> str:
    """Return what to do about a reason that `lockstep.registry` gave, to be put behind it."""
    if reason.startswith("has sequence"):
        return (
            "; another change of the same subject came first: look at it (lockstep rollup show), then run "
            "the command again"
        )
    if reason.startswith("takes effect"):
        return "; choose a later --effective-height, or leave it out"
    if "not ACTIVE" in reason:
        return "; lockstep rollup show says how it stands"
    if "not DRAINING" in reason:
        return "; drain it first (lockstep rollup drain), a day of log time before it leaves"
    if "id is used already" in reason:
        return "; an id is used once and for good: choose another"
    if "not in the set" in reason:
        return "; lockstep rollup show lists the attesters: name the one that goes with --old-key"
    if "no change that is pending" in reason:
        return "; lockstep rollup show lists those that are"
    return ""
