"""What a swap receipt proves, and what it only attests, in sentences for people.

Owns the words. Invariant: a sentence under "proves" follows from the bytes, hashes and signatures whatever
anybody did; one under "attests" says whose word it is, and how it could be checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.checkpoint import Checkpoint
from lockstep.register import BLOCK_OPENING, Decision, OutcomeReason, Phase, SwapRecord
from lockstep.settlement_registry import KnownRegistry
from lockstep.swap_entries import Verdict
from lockstep.swap_receipt import SwapReceipt
from lockstep.swap_receipt_legs import LegOutcome, VerifiedLeg
from lockstep.types import PublicKey

__pure__ = True


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sentences are about: a receipt, and what was found of it."""

    receipt: SwapReceipt
    """The receipt."""
    record: SwapRecord
    """The swap's record, decided."""
    legs: tuple[VerifiedLeg, ...]
    """Its legs."""
    registry: KnownRegistry
    """Whose signatures counted when."""
    checkpoint: Checkpoint
    """The settlement log's."""
    sequencer_key: PublicKey
    """Who signed the last header."""
    log_key: PublicKey
    """Who signed the checkpoint."""

    @property
    def decision(self) -> Decision:
        """How the swap was decided."""
        assert self.record.decision is not None, "a replay ends with a decision"
        return self.record.decision

    def legs_that(self, *outcomes: LegOutcome) -> str:
        """Return the legs with one of these outcomes, in words; empty if there is none."""
        return _listed([leg.leg for leg in self.legs if leg.outcome in outcomes])


# --- what it proves -----------------------------------------------------------------------------------------


def proves(facts: Facts) -> tuple[str, ...]:
    """Return what the receipt proves."""
    receipt, record, log = facts.receipt, facts.record, facts.checkpoint
    first, last = receipt.headers[0], receipt.headers[-1]
    anchored = f"the header of block {last.height}" + (" and these states" if receipt.settled else "")
    return (
        f"The terms whose hash is the swap's id were ordered in block {record.opened_height} at place "
        f"{record.opened_index}, log time {first.time_ms}.",
        f"The sequencer signed block {last.height}, whose header leads back, hash by hash through all "
        f"{len(receipt.headers)} headers, to that block.",
        *_locks(facts),
        *_verdicts(facts),
        _decision(facts),
        *_settlements(facts),
        f"The settlement log {log.origin} signed that {anchored} are among its {log.size} entries, whose "
        f"root is {log.root.hex()}.",
    )


def _locks(facts: Facts) -> list[str]:
    locked = facts.legs_that(LegOutcome.PAID, LegOutcome.RETURNED)
    return [f"Who gives leg {locked} signed its lock, which was ordered in time."] if locked else []


def _verdicts(facts: Facts) -> list[str]:
    sentences = []
    for leg, attested in zip(facts.legs, facts.record.legs, strict=True):
        if leg.verdict is None:
            continue
        cast = [vote for vote in attested.votes if vote.verdict == leg.verdict]
        reasons = sorted({vote.reason.name for vote in cast})
        why = f" ({_listed(reasons)})" if leg.verdict == Verdict.REJECTED else ""
        sentences.append(
            f"{len(cast)} of {len(attested.attesters.keys)} attesters of {leg.rollup}, of whom it takes "
            f"{attested.attesters.threshold}, signed that leg {leg.leg} was {leg.verdict.name}{why} after a "
            f"block of this chain."
        )
    return sentences


def _decision(facts: Facts) -> str:
    record, decision, terms = facts.record, facts.decision, facts.record.terms
    time_ms = facts.receipt.header_at(decision.height).time_ms
    place = "before its entries" if decision.index == BLOCK_OPENING else f"at place {decision.index}"
    legs = _listed(decision.reason_legs)
    because = {
        OutcomeReason.NONE: f"every leg LOCKED, and the preimage revealed before {terms.expires_ms}",
        OutcomeReason.LEG_REJECTED: f"leg {legs} was rejected",
        OutcomeReason.CANCELLED: "its revealer signed the cancellation",
        OutcomeReason.NOT_LOCKED: f"log time {terms.lock_by_ms} came with no verdict on leg {legs} shown",
        OutcomeReason.NOT_REVEALED: f"log time {terms.expires_ms} came with no preimage shown",
        OutcomeReason.CROWDED_OUT: "another swap was opened in its place",
    }[decision.reason]
    reason = "" if record.phase == Phase.COMMITTED else f", {decision.reason.name}"
    return (
        f"By the register's rules these entries decide the swap in block {decision.height} {place}, log time "
        f"{time_ms}: {record.phase.name}{reason}; {because}."
    )


def _settlements(facts: Facts) -> list[str]:
    height, sentences = facts.receipt.headers[-1].height, []
    for leg in facts.legs:
        attesters = facts.registry.attesters_at(leg.rollup, height)
        if leg.outcome == LegOutcome.NOTHING_SHOWN or attesters is None:
            continue
        done = {
            LegOutcome.PAID: f"went to {leg.recipient.hex()}",
            LegOutcome.RETURNED: f"went back to {leg.sender.hex()}",
            LegOutcome.UNBACKED: "WAS NOT IN ESCROW and nobody was paid: who attested it LOCKED lied",
        }[leg.outcome]
        premium = f" Its premium of {leg.premium} was {leg.premium_outcome.name}." if leg.premium else ""
        sentences.append(
            f"{attesters.threshold} of {len(attesters.keys)} attesters of {leg.rollup}, which is as many as "
            f"it takes, signed a state after block {height} in which leg {leg.leg}, {leg.amount} base units "
            f"of {leg.asset}, {done}.{premium}"
        )
    return sentences


# --- what it only attests -----------------------------------------------------------------------------------


def attests(facts: Facts) -> tuple[str, ...]:
    """Return what the receipt only attests, and on whose word each rests."""
    registrations = len(facts.receipt.log.registrations)
    return (
        *_verdicts_attested(facts),
        *_settlements_attested(facts),
        *_decision_attested(facts),
        f"That nobody was shown another order: the word of the sequencer, key {facts.sequencer_key.hex()}. "
        f"Two headers signed by it at one height would convict it, and the settlement log takes one alone.",
        f"That everybody sees the same settlement log: the word of its key {facts.log_key.hex()}. Compare "
        f"the root at size {facts.checkpoint.size} with what others see.",
        f"That no key was replaced but by the {registrations} changes shown: the word of the settlement log, "
        f"which takes commitments of keys in force alone. `lockstep log verify` checks all of the log.",
    )


def _verdicts_attested(facts: Facts) -> list[str]:
    if all(leg.verdict is None for leg in facts.legs):
        return []
    return [
        "That each verdict was true when it was given: the word of the attesters who signed it. Executing "
        "the rollup's share of the order again shows it."
    ]


def _settlements_attested(facts: Facts) -> list[str]:
    sentences = []
    if facts.receipt.settled:
        sentences.append(
            f"That {_settlers(facts)} did what the receipts say: the word of the attesters who signed the "
            f"states. Executing the rollup's share of the order again shows it."
        )
    nothing = facts.legs_that(LegOutcome.NOTHING_SHOWN)
    if nothing:
        sentences.append(
            f"That nothing was in escrow for leg {nothing}: nobody's word; no settlement of it is shown. Ask "
            f"its rollup."
        )
    return sentences


def _decision_attested(facts: Facts) -> list[str]:
    reason, word = (
        facts.decision.reason,
        f"the word of the attesters of {_settlers(facts)}, who settled by it",
    )
    if not facts.receipt.settled:
        word = f"the word of the attesters who rejected leg {_listed(facts.decision.reason_legs)}"
    sentences = [
        f"That this was the decision, and no entry left out here decided the swap before: {word}. Whoever "
        f"follows the order can check it."
    ]
    if reason == OutcomeReason.NOT_LOCKED:
        missing = _listed(facts.decision.reason_legs)
        sentences.append(
            f"That no verdict on leg {missing} was ordered in time: nobody's word; "
            f"who made this file could leave one out. Whoever follows the order can check it."
        )
    if reason == OutcomeReason.CROWDED_OUT:
        sentences.append(f"That the register was full, which cost the swap its place: {word}.")
    return sentences


def _settlers(facts: Facts) -> str:
    return _listed([each.rollup for each in facts.receipt.settled])


def _listed(things: Sequence[object]) -> str:
    if len(things) < 2:
        return "".join(map(str, things))
    return f"{', '.join(map(str, things[:-1]))} and {things[-1]}"
