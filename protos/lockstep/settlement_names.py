"""Names by which entries of the settlement log are found again, so that judging one needs no search.

Owns the names alone; who bears them is `lockstep.settlement_log`'s to say. Invariant: different things have
different names: parts are separated by "/", which no part contains.

    name                                the entry that bears it
    leaf/HASH                           the entry with this leaf hash
    range/HEIGHT                        the header range that ends at the height
    commitment/ROLLUP/KEY/HEIGHT        the attester's commitment at the height
    last/ROLLUP/KEY                     the attester's newest commitment
    register/HEIGHT                     the first commitment at the height, whose register root all others
                                        should have
    anchored/ROLLUP/HEIGHT              the commitment that completed the rollup's threshold at the height
    evidence/KIND/...                   the first evidence about the same (`lockstep.settlement_evidence`)
    registration/SUBJECT/SEQUENCE       the registration of this change

Heights and sequences are 16 hex digits, so that names of one kind sort by them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.merkle import leaf_hash
from lockstep.types import PublicKey, SwapId

__pure__ = True


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that bears the name asked for."""

    index: int
    """Its index in the log."""
    entry: bytes
    """Its bytes."""


Find = Callable[[str], Found | None]
"""Finds the entry that bears a name; None if none does."""


def leaf_name(encoded: bytes) -> str:
    """Return the name of an entry by its bytes."""
    return f"leaf/{leaf_hash(encoded).hex()}"


def range_name(height: int) -> str:
    """Return the name of the header range that ends at a height."""
    return f"range/{height:016x}"


def commitment_name(rollup: str, attester: PublicKey, height: int) -> str:
    """Return the name of an attester's commitment at a height."""
    return f"commitment/{rollup}/{attester.hex()}/{height:016x}"


def last_name(rollup: str, attester: PublicKey) -> str:
    """Return the name of an attester's newest commitment."""
    return f"last/{rollup}/{attester.hex()}"


def register_name(height: int) -> str:
    """Return the name of the first commitment at a height."""
    return f"register/{height:016x}"


def anchored_name(rollup: str, height: int) -> str:
    """Return the name of the commitment that anchors a rollup's state at a height."""
    return f"anchored/{rollup}/{height:016x}"


def registration_name(subject: str, sequence: int) -> str:
    """Return the name of the registration of a subject's change."""
    return f"registration/{subject}/{sequence:016x}"


def headers_evidence_name(height: int) -> str:
    """Return the name of evidence that there are two headers at a height."""
    return f"evidence/1/{height:016x}"


def attestations_evidence_name(rollup: str, attester: PublicKey, swap_id: SwapId, leg: int) -> str:
    """Return the name of evidence that an attester gave two verdicts on a leg."""
    return f"evidence/2/{rollup}/{attester.hex()}/{swap_id.hex()}/{leg}"


def commitments_evidence_name(rollup: str, attester: PublicKey, height: int) -> str:
    """Return the name of evidence that an attester made two commitments at a height."""
    return f"evidence/3/{rollup}/{attester.hex()}/{height:016x}"


def register_evidence_name(height: int) -> str:
    """Return the name of evidence that commitments at a height have different register roots."""
    return f"evidence/4/{height:016x}"
