"""What the real register says happened, in the words of the plain one (`deploy.audit.plain.register`)."""

from collections.abc import Iterable, Sequence

from deploy.audit.plain.register import Block, Fact, Register
from lockstep import limits
from lockstep.genesis import Genesis
from lockstep.register import (
    BLOCK_OPENING,
    BlockInput,
    Contradicted,
    Decided,
    Dropped,
    Ignored,
    Opened,
    RegisterEvent,
    RegistryChanged,
    Revealed,
    Voted,
)


def plain_history(genesis: Genesis, blocks: Sequence[BlockInput]) -> list[tuple[bytes, list[Fact]]]:
    """Return the plain register's root after each block, and what the block did, under today's limits."""
    register = Register(
        genesis,
        records_max=limits.REGISTER_RECORDS_MAX,
        headers_remembered=limits.HEADERS_REMEMBERED,
    )
    history = []
    for block in blocks:
        register.apply(Block(*(getattr(block, name) for name in Block._fields)))
        history.append((register.root, register.facts))
    return history


def facts_of(events: Iterable[RegisterEvent]) -> list[Fact]:
    """Return what the events of the real register say, in the same words."""
    facts: list[Fact] = []
    for event in events:
        match event:
            case Opened(record):
                facts.append((record.opened_index, "opened", record.swap_id))
            case Voted(record, leg, vote):
                place = record.legs[leg].place_of(vote)
                said = (leg, vote.key_index, vote.verdict, vote.reason)
                facts.append((place.index, "voted", record.swap_id, *said))
            case Revealed(record):
                facts.append((None, "revealed", record.swap_id))
            case Decided(record):
                decision = record.decision
                assert decision is not None
                index = -1 if decision.index == BLOCK_OPENING else decision.index
                opened = (record.opened_height, record.opened_index)
                outcome = (record.phase.name, decision.reason.name, decision.reason_legs)
                facts.append((index, "decided", record.swap_id, opened, *outcome))
            case Dropped(swap_id):
                facts.append((None, "dropped", swap_id))
            case Ignored(index, _):
                facts.append((index, "ignored"))
            case Contradicted(first, second):
                facts.append((None, "contradicted", first, second))
            case RegistryChanged():
                pass
    return facts
