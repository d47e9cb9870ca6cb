"""Evidence: two statements of which at most one can be honest, judged from their own bytes.

Owns what each kind must show, and the name by which evidence about the same fault is found again: one of a
kind is enough, so that a faulty key cannot fill the log. Invariant: evidence that verifies convicts a key
that the registry knows, whatever the log has anchored.

    kind                who is convicted                      evidence is about
    1 HEADERS           the sequencer                         a height
    2 ATTESTATIONS      an attester                           a leg of a swap
    3 COMMITMENTS       an attester                           a height
    4 REGISTER_ROOTS    one of two attesters, or both         a height

Two attestations contradict each other only if both were made on one block: a leg has one verdict there. An
attester that was shown two orders by the sequencer is no liar, and nor is one that attested two openings of a
swap (protos/README.md, section 8). Verdicts of two heights need the order to convict, which shows that the
swap was not opened again in between; followers find those (`lockstep.register.Contradicted`).
"""

from lockstep.errors import BadSignature, Malformed, UnknownKey, WrongChain
from lockstep.hashing import SIGN_ATTESTATION
from lockstep.settlement_entries import (
    CommitmentEntry,
    Evidence,
    EvidenceKind,
    ProvenHeader,
    decode_proven_header,
    decode_settlement_entry,
    verify_commitment,
    verify_proven_header,
)
from lockstep.settlement_names import (
    attestations_evidence_name,
    commitments_evidence_name,
    headers_evidence_name,
    register_evidence_name,
)
from lockstep.settlement_registry import KnownRegistry
from lockstep.signing import verify
from lockstep.swap_entries import Attest, AttestItem, decode_swap_entry
from lockstep.types import ChainId

__pure__ = True


def evidence_name(evidence: Evidence) -> str:
    """Return the name of evidence: the same for all evidence about the same fault.

    Raises `Malformed` if the statements are not of the kind, or do not contradict each other.
    """
    match evidence.kind:
        case EvidenceKind.HEADERS:
            first, _ = _headers(evidence)
            return headers_evidence_name(first.header.height)
        case EvidenceKind.ATTESTATIONS:
            attest, _ = _attestations(evidence)
            item = _contradicted(evidence)
            said = attest.attestation
            return attestations_evidence_name(said.rollup, said.attester, item.swap_id, item.leg)
        case EvidenceKind.COMMITMENTS:
            entry, _ = _commitments(evidence)
            named = entry.posted.commitment
            return commitments_evidence_name(named.rollup, entry.posted.attester, named.height)
        case EvidenceKind.REGISTER_ROOTS:
            entry, _ = _register_roots(evidence)
            return register_evidence_name(entry.posted.commitment.height)


def verify_evidence(evidence: Evidence, *, chain: ChainId, registry: KnownRegistry) -> None:
    """Verify that evidence convicts.

    1. The statements are of the kind and contradict each other (Malformed).
    2. Each is about this chain (WrongChain), its key may make such statements (UnknownKey) and made this one
       (BadSignature).
    """
    match evidence.kind:
        case EvidenceKind.HEADERS:
            for proven in _headers(evidence):
                _require_chain(chain, proven.header.chain)
                verify_proven_header(registry.sequencer_key_at(proven.header.height), proven)
        case EvidenceKind.ATTESTATIONS:
            _contradicted(evidence)
            _verify_attestations(evidence, chain, registry)
        case EvidenceKind.COMMITMENTS:
            for entry in _commitments(evidence):
                _verify_commitment(entry, chain, registry)
        case EvidenceKind.REGISTER_ROOTS:
            for entry in _register_roots(evidence):
                _verify_commitment(entry, chain, registry)


def _headers(evidence: Evidence) -> tuple[ProvenHeader, ProvenHeader]:
    first, second = decode_proven_header(evidence.first), decode_proven_header(evidence.second)
    if first.header.height != second.header.height:
        raise _malformed("second", "is a header of another height")
    if first.encoded == second.encoded:
        raise _malformed("second", "is the same header")
    return first, second


def _attestations(evidence: Evidence) -> tuple[Attest, Attest]:
    first, second = decode_swap_entry(evidence.first), decode_swap_entry(evidence.second)
    if not isinstance(first, Attest) or not isinstance(second, Attest):
        raise _malformed("first", "or second is no attestation")
    one, other = first.attestation, second.attestation
    if (one.rollup, one.attester) != (other.rollup, other.attester):
        raise _malformed("second", "is another attester's, or about another rollup")
    if (one.executed_height, one.header_hash) != (other.executed_height, other.header_hash):
        raise _malformed("second", "was made on another block")
    return first, second


def _contradicted(evidence: Evidence) -> AttestItem:
    """Return the first item of the first attestation that the second one contradicts."""
    first, second = _attestations(evidence)
    verdicts = {(each.swap_id, each.leg): each.verdict for each in second.attestation.items}
    for item in first.attestation.items:
        if verdicts.get((item.swap_id, item.leg), item.verdict) != item.verdict:
            return item
    raise _malformed("second", "contradicts no verdict of the first")


def _commitments(evidence: Evidence) -> tuple[CommitmentEntry, CommitmentEntry]:
    first, second = _commitment_entries(evidence)
    one, other = first.posted, second.posted
    if _whose(first) != _whose(second) or one.commitment.height != other.commitment.height:
        raise _malformed("second", "is another attester's, or about another rollup or height")
    if (one.header_hash, one.commitment) == (other.header_hash, other.commitment):
        raise _malformed("second", "says the same as the first")
    return first, second


def _register_roots(evidence: Evidence) -> tuple[CommitmentEntry, CommitmentEntry]:
    first, second = _commitment_entries(evidence)
    one, other = first.posted, second.posted
    if (one.commitment.height, one.header_hash) != (other.commitment.height, other.header_hash):
        raise _malformed("second", "is about another block")
    if one.commitment.register_root == other.commitment.register_root:
        raise _malformed("second", "has the same register root")
    if _whose(first) == _whose(second):
        raise _malformed("kind", f"is {EvidenceKind.COMMITMENTS.value} for two commitments of one attester")
    return first, second


def _commitment_entries(evidence: Evidence) -> tuple[CommitmentEntry, CommitmentEntry]:
    first, second = decode_settlement_entry(evidence.first), decode_settlement_entry(evidence.second)
    if not isinstance(first, CommitmentEntry) or not isinstance(second, CommitmentEntry):
        raise _malformed("first", "or second is no commitment")
    return first, second


def _whose(entry: CommitmentEntry) -> tuple[str, bytes]:
    return entry.posted.commitment.rollup, entry.posted.attester


def _verify_commitment(entry: CommitmentEntry, chain: ChainId, registry: KnownRegistry) -> None:
    posted = entry.posted
    _require_chain(chain, posted.chain)
    attesters = registry.attesters_at(posted.commitment.rollup, posted.commitment.height)
    if attesters is None or posted.attester not in attesters.keys:
        raise UnknownKey(what="commitment", key=posted.attester.hex())
    verify_commitment(entry)


def _verify_attestations(evidence: Evidence, chain: ChainId, registry: KnownRegistry) -> None:
    for each in _attestations(evidence):
        said = each.attestation
        _require_chain(chain, said.chain)
        if not registry.was_attester(said.rollup, said.attester):
            raise UnknownKey(what="attestation", key=said.attester.hex())
        if not verify(SIGN_ATTESTATION, said.attester, each.body, each.signature):
            raise BadSignature(what="attestation", signer=said.attester.hex())


def _require_chain(chain: ChainId, found: ChainId) -> None:
    if found != chain:
        raise WrongChain(expected=chain.hex(), found=found.hex())


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="evidence", field=field, reason=reason)
