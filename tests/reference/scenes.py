"""What tests of the register set up again and again, and how they look at what happened."""

from lockstep.register import (
    BlockInput,
    Decided,
    Decision,
    Ignored,
    Phase,
    RegisterEvent,
    apply_block,
    useless_reason,
)
from lockstep.swap_entries import decode_swap_entry
from lockstep.terms import Terms
from lockstep.types import (
    Height,
)
from tests.reference.world import (
    A1,
    A2,
    B1,
    World,
    attest,
    header_hash,
    id_of,
    item_of,
    make_terms,
    open_entry,
)

TERMS = make_terms()
SWAP = id_of(TERMS)
LOCK_BY_MS, EXPIRES_MS = TERMS.lock_by_ms, TERMS.expires_ms


def kinds(events: tuple[RegisterEvent, ...]) -> list[str]:
    return [type(event).__name__ for event in events]


def opened(terms: Terms = TERMS) -> World:
    """Return a chain whose block 1 opened a swap."""
    world = World()
    assert kinds(world.block(open_entry(terms))) == ["Opened"]
    return world


def alpha_locked(world: World, terms: Terms = TERMS) -> list[bytes]:
    """Return what two attesters of alpha say of leg 0 after the newest block."""
    return [attest(key, "alpha", world.height, item_of(terms, 0)) for key in (A1, A2)]


def beta_locked(world: World, terms: Terms = TERMS) -> bytes:
    return attest(B1, "beta", world.height, item_of(terms, 1))


def locked(terms: Terms = TERMS) -> World:
    """Return a chain on which every leg of a swap is attested LOCKED."""
    world = opened(terms)
    world.block(*alpha_locked(world, terms), beta_locked(world, terms))
    assert world.record(terms).phase == Phase.LOCKED
    return world


def outcome(events: tuple[RegisterEvent, ...]) -> tuple[Phase, Decision]:
    """Return how the only swap that these events decide was decided."""
    [record] = [event.record for event in events if isinstance(event, Decided)]
    assert record.decision is not None
    return record.phase, record.decision


def ignored(world: World, payload: bytes, reason: str, *, advance_ms: int = 250) -> None:
    """Assert that an entry changes nothing, why, and that admission would have said the same."""
    before = world.register
    height, time_ms = Height(before.height + 1), before.time_ms + advance_ms
    without, _ = apply_block(before, BlockInput(height, header_hash(height), time_ms, [], []))
    block = BlockInput(height, header_hash(height), time_ms, [], [(7, payload)])
    after, events = apply_block(before, block)
    [event] = [each for each in events if isinstance(each, Ignored)]
    assert (event.index, after.root) == (7, without.root)
    assert reason in event.reason
    if "malformed" not in reason:
        entry = decode_swap_entry(payload)
        assert useless_reason(before, entry, height=height, time_ms=time_ms) == event.reason
