"""The settlement log's rules: what may be appended to it, what is there already, what contradicts what.

Owns the judgement of an entry against the entries before it. Pure: the log's own process and every auditor
come to the same result. Evidence is judged in `lockstep.settlement_evidence`; whose signatures counted when
is `lockstep.settlement_registry`'s to say. Invariant: a log is valid if and only if its entries are what the
steps from `empty_log` on append.

What an entry is judged against is small (`Log`), but for earlier entries, which are found by name
(`lockstep.settlement_names`): `step` asks for them and says which names a new entry bears; `lookups` tells
beforehand which ones it may ask for, so that they can be read from a database together.

Statements that are there already, whatever other bytes they come in, are answered with their index. One that
contradicts an earlier one of the same key is refused, and both are appended as evidence. Commitments with
different register roots at one height are appended, and evidence behind them: neither shows which of two keys
is wrong, and were one refused, a single liar could keep all others from anchoring.

A header range ends at the latest at the next multiple of the anchor interval, so that every commitment, which
is made at such a multiple, is about a header whose hash is here. One that comes before its header is refused
with NOT_YET, to be sent again.

The order of checks: layout, the same statement, chain, key, signature, a statement that contradicts it,
continuity. So what is there once stays there, whatever became of its key since.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lockstep import limits
from lockstep.commitment import commitment_hash
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    LockstepError,
    NotYet,
    UnknownKey,
    WrongChain,
)
from lockstep.genesis import Genesis
from lockstep.hashing import ZERO_HASH
from lockstep.header import Header, Tip, genesis_tip, header_hash, tip_of
from lockstep.registry_entries import decode_registry_entry
from lockstep.settlement_entries import (
    CommitmentEntry,
    EntryType,
    Evidence,
    EvidenceKind,
    GenesisEntry,
    HeaderRange,
    Registration,
    SettlementEntry,
    decode_settlement_entry,
    encode_proven_header,
    encode_settlement_entry,
    verify_commitment,
    verify_proven_header,
)
from lockstep.settlement_evidence import evidence_name, verify_evidence
from lockstep.settlement_names import (
    Find,
    Found,
    anchored_name,
    commitment_name,
    commitments_evidence_name,
    headers_evidence_name,
    last_name,
    leaf_name,
    range_name,
    register_evidence_name,
    register_name,
    registration_name,
)
from lockstep.settlement_registry import KnownRegistry
from lockstep.types import ChainId, HeaderHash, RollupId

__pure__ = True

_Entry = TypeVar("_Entry", bound=SettlementEntry)


@dataclass(frozen=True, slots=True)
class Anchored:
    """A rollup's newest commitment on which its threshold of attesters agrees in the log."""

    height: int
    """Its height."""
    commitment_hash: bytes
    """Its hash."""
    index: int
    """Index of the entry that completed the threshold."""


@dataclass(frozen=True, slots=True)
class Log:
    """What every entry is judged against, besides earlier entries."""

    genesis: Genesis
    """The chain that the log is for."""
    size: int
    """Entries so far."""
    tip: Tip
    """The last header that is anchored."""
    registry: KnownRegistry
    """Whose signatures counted when."""
    anchored: Mapping[RollupId, Anchored] = field(default_factory=dict)
    """The newest anchored commitment of each rollup that has one. Never changed in place."""
    evidence_count: int = 0
    """Entries of evidence."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that somebody wants to be appended; only its layout is known to be right."""

    encoded: bytes
    """Its bytes."""
    entry: SettlementEntry
    """What they say."""
    name: str
    """The name that it would bear: entries of one name are about the same thing."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a candidate."""

    log: Log
    """The log after it."""
    answer: int | LockstepError
    """The index at which it, or an entry that says the same, stands; or why it was refused."""
    appended: tuple[bytes, ...] = ()
    """What is appended, in order: the entry, evidence, both or nothing."""
    names: Mapping[str, int] = field(default_factory=dict)
    """The names that appended entries bear from now on, with their indexes."""


def empty_log(genesis: Genesis) -> Log:
    """Return the log before its first entry, which has to be `genesis_entry`."""
    tip = genesis_tip(genesis.chain_id, genesis.genesis_time_ms)
    return Log(genesis, 0, tip, KnownRegistry.from_genesis(genesis))


def genesis_entry(genesis: Genesis) -> bytes:
    """Return the entry that every log of a chain starts with."""
    return encode_settlement_entry(GenesisEntry(genesis.chain_id, genesis.settlement.origin))


def resumed(log: Log, entries: Iterable[bytes]) -> Log:
    """Return the log after entries that are known to be valid, without judging them again.

    `anchored` stays as it is: whoever kept the entries also kept their names. Raises `WrongChain` if the
    entries are another chain's.
    """
    newest_range = b""
    for encoded in entries:
        match encoded[1]:
            case EntryType.GENESIS:
                if encoded != genesis_entry(log.genesis):
                    raise WrongChain(expected=log.genesis.chain_id.hex(), found=encoded[2:34].hex())
            case EntryType.HEADER_RANGE:
                # Only the last one before a registration, and the last of all, has to be read.
                newest_range = encoded
            case EntryType.EVIDENCE:
                log = replace(log, evidence_count=log.evidence_count + 1)
            case EntryType.REGISTRATION:
                log = _registered(_tip_at(log, newest_range), _decoded(encoded, Registration))
        log = replace(log, size=log.size + 1)
    return _tip_at(log, newest_range)


def read_candidate(encoded: bytes) -> Candidate:
    """Parse an entry that is to be judged. Raises `Malformed`, for statements inside of it as well."""
    entry = decode_settlement_entry(encoded)
    return Candidate(encoded, entry, _name_of(encoded, entry))


def says_the_same(one: Candidate, other: Candidate) -> bool:
    """Answer whether two entries make the same statement, whatever else they come with."""
    match one.entry, other.entry:
        case HeaderRange(last=first), HeaderRange(last=second):
            return first.encoded == second.encoded
        case CommitmentEntry(posted=first), CommitmentEntry(posted=second):
            return one.name == other.name and (first.chain, first.header_hash, first.commitment) == (
                second.chain,
                second.header_hash,
                second.commitment,
            )
        case Evidence(), Evidence():
            return one.name == other.name
        case Registration() as first, Registration() as second:
            return (first.header.encoded, first.entry) == (second.header.encoded, second.entry)
        case _:
            return one.encoded == other.encoded


def lookups(log: Log, candidate: Candidate) -> tuple[str, ...]:
    """Return every name that `step` may ask for, unless a REGISTRATION is appended in between."""
    names = {leaf_name(candidate.encoded), candidate.name}
    match candidate.entry:
        case HeaderRange(last=last):
            names.add(headers_evidence_name(last.header.height))
        case Registration() as registration:
            names |= {range_name(registration.height), headers_evidence_name(registration.height)}
        case CommitmentEntry(posted=posted):
            rollup, height = posted.commitment.rollup, posted.commitment.height
            attesters = log.registry.attesters_at(rollup, height)
            names |= {commitment_name(rollup, key, height) for key in (attesters.keys if attesters else ())}
            names |= {last_name(rollup, posted.attester), anchored_name(rollup, height)}
            names |= {range_name(height), register_name(height)}
            names |= {register_evidence_name(height)}
            names |= {commitments_evidence_name(rollup, posted.attester, height)}
    return tuple(names)


def step(log: Log, find: Find, candidate: Candidate) -> Step:
    """Judge an entry and return what becomes of it. Never raises for what an entry says."""
    for name in (leaf_name(candidate.encoded), candidate.name):
        known = find(name)
        if known is not None and says_the_same(read_candidate(known.entry), candidate):
            return Step(log, known.index)
    try:
        if log.size == 0:
            return _judge_genesis(log, candidate)
        match candidate.entry:
            case HeaderRange() as entry:
                return _judge_range(log, find, candidate, entry)
            case CommitmentEntry() as entry:
                return _judge_commitment(log, find, candidate, entry)
            case Evidence() as entry:
                return _judge_evidence(log, candidate, entry)
            case Registration() as entry:
                return _judge_registration(log, find, candidate, entry)
            case GenesisEntry():
                return _judge_genesis(log, candidate)
    except LockstepError as error:
        return Step(log, error)


def _judge_genesis(log: Log, candidate: Candidate) -> Step:
    if isinstance(candidate.entry, GenesisEntry):
        _require_chain(log, candidate.entry.chain)
    if log.size or candidate.encoded != genesis_entry(log.genesis):
        reason = f"stands at index {log.size}; a log starts with its genesis entry and has no other"
        raise Discontinuous(what="entry", reason=reason)
    return _append(log, candidate)


def _judge_range(log: Log, find: Find, candidate: Candidate, entry: HeaderRange) -> Step:
    header = entry.last.header
    _require_chain(log, header.chain)
    verify_proven_header(log.registry.sequencer_key_at(header.height), entry.last)
    if header.height <= log.tip.height:
        return _judge_anchored_height(log, find, candidate, entry)
    _verify_continues(log, entry, header)
    return _append(_tip_moved(log, entry), candidate)


def _judge_anchored_height(log: Log, find: Find, candidate: Candidate, entry: HeaderRange) -> Step:
    """Judge a signed header at a height that is anchored already."""
    known = find(candidate.name)
    if known is None:
        reason = f"ends at height {entry.last.header.height}, inside of a range that is anchored already"
        raise Discontinuous(what="header range", reason=reason)
    first = _decoded(known.entry, HeaderRange).last
    evidence = Evidence(EvidenceKind.HEADERS, encode_proven_header(first), encode_proven_header(entry.last))
    return _convict(log, find, evidence, what="header")


def _verify_continues(log: Log, entry: HeaderRange, header: Header) -> None:
    """Check that a range continues the anchored headers. Raises `Discontinuous`."""
    tip, interval = log.tip, log.genesis.anchor_interval_blocks
    reason = ""
    if entry.first_height != tip.height + 1:
        reason = f"starts at height {entry.first_height}, anchored is {tip.height}"
    elif entry.parent_hash != tip.hash:
        reason = f"continues {entry.parent_hash.hex()}, anchored at height {tip.height} is {tip.hash.hex()}"
    elif header.height > (latest := (tip.height // interval + 1) * interval):
        reason = (
            f"ends at height {header.height}, which lies beyond the next multiple of {interval}, {latest}"
        )
    else:
        blocks, advance_ms = header.height - tip.height, header.time_ms - tip.time_ms
        if not blocks <= advance_ms <= blocks * limits.MAX_ADVANCE_MS:
            reason = f"advances log time by {advance_ms} ms in {blocks} blocks"
    if reason:
        raise Discontinuous(what="header range", reason=reason)


def _judge_commitment(log: Log, find: Find, candidate: Candidate, entry: CommitmentEntry) -> Step:
    posted = entry.posted
    commitment, attester = posted.commitment, posted.attester
    _require_chain(log, posted.chain)
    attesters = log.registry.attesters_at(commitment.rollup, commitment.height)
    if attesters is None or attester not in attesters.keys:
        raise UnknownKey(what=f"commitment of {commitment.rollup}", key=attester.hex())
    verify_commitment(entry)
    known = find(candidate.name)
    if known is not None:
        evidence = Evidence(EvidenceKind.COMMITMENTS, known.entry, candidate.encoded)
        return _convict(log, find, evidence, what="commitment")
    _verify_about_anchored(log, find, entry)
    _verify_continues_last(find, entry)
    return _append_commitment(log, find, candidate, entry)


def _verify_about_anchored(log: Log, find: Find, entry: CommitmentEntry) -> None:
    """Check that a commitment is about a header that ends an anchored range."""
    height = entry.posted.commitment.height
    if height > log.tip.height:
        raise NotYet(height=height, newest=log.tip.height)
    about = find(range_name(height))
    if about is None:
        interval = log.genesis.anchor_interval_blocks
        reason = f"is at height {height}, where no anchored range ends; post those at multiples of {interval}"
        raise Discontinuous(what="commitment", reason=reason)
    if entry.posted.header_hash != _anchored_hash(about):
        reason = f"is about another header than the one that is anchored at height {height}"
        raise Discontinuous(what="commitment", reason=reason)


def _verify_continues_last(find: Find, entry: CommitmentEntry) -> None:
    """Check that a commitment names its attester's last one."""
    posted = entry.posted
    last = find(last_name(posted.commitment.rollup, posted.attester))
    height, hashed = 0, ZERO_HASH
    if last is not None:
        commitment = _decoded(last.entry, CommitmentEntry).posted.commitment
        height, hashed = commitment.height, commitment_hash(commitment)
    if (posted.previous_height, posted.previous_commitment) != (height, hashed):
        reason = (
            f"names {posted.previous_commitment.hex()} at height {posted.previous_height} as the one before, "
            f"which is {hashed.hex()} at height {height}"
        )
        raise Discontinuous(what="commitment", reason=reason)


def _append_commitment(log: Log, find: Find, candidate: Candidate, entry: CommitmentEntry) -> Step:
    """Append a valid commitment; anchor the rollup's state if it completes the threshold."""
    posted, index = entry.posted, log.size
    commitment = posted.commitment
    rollup, height = commitment.rollup, commitment.height
    names = {last_name(rollup, posted.attester): index}
    if _completes_threshold(log, find, entry):
        names[anchored_name(rollup, height)] = index
        if rollup not in log.anchored or log.anchored[rollup].height < height:
            newest = Anchored(height, commitment_hash(commitment), index)
            log = replace(log, anchored={**log.anchored, rollup: newest})
    first = find(register_name(height))
    if first is None:
        names[register_name(height)] = index
        return _append(log, candidate, names)
    if _decoded(first.entry, CommitmentEntry).posted.commitment.register_root == commitment.register_root:
        return _append(log, candidate, names)
    if find(register_evidence_name(height)) is not None:
        return _append(log, candidate, names)
    flag = Evidence(EvidenceKind.REGISTER_ROOTS, first.entry, candidate.encoded)
    return _append(log, candidate, names, flag if _convicts(log, flag) else None)


def _completes_threshold(log: Log, find: Find, entry: CommitmentEntry) -> bool:
    """Answer whether a commitment not yet in the log is the one that its threshold was waiting for."""
    posted = entry.posted
    rollup, height = posted.commitment.rollup, posted.commitment.height
    attesters = log.registry.attesters_at(rollup, height)
    if attesters is None or find(anchored_name(rollup, height)) is not None:
        return False
    others = (find(commitment_name(rollup, key, height)) for key in attesters.keys if key != posted.attester)
    agreeing = sum(
        other is not None and _decoded(other.entry, CommitmentEntry).posted.commitment == posted.commitment
        for other in others
    )
    return agreeing + 1 >= attesters.threshold


def _judge_evidence(log: Log, candidate: Candidate, entry: Evidence) -> Step:
    verify_evidence(entry, chain=log.genesis.chain_id, registry=log.registry)
    return _append(log, candidate)


def _judge_registration(log: Log, find: Find, candidate: Candidate, entry: Registration) -> Step:
    header = entry.header.header
    _require_chain(log, header.chain)
    _require_chain(log, decode_registry_entry(entry.payload).change.chain)
    verify_proven_header(log.registry.sequencer_key_at(header.height), entry.header)
    known = find(range_name(header.height))
    if known is not None:
        anchored = _decoded(known.entry, HeaderRange).last
        if anchored.encoded != entry.header.encoded:
            proven = encode_proven_header(anchored), encode_proven_header(entry.header)
            return _convict(log, find, Evidence(EvidenceKind.HEADERS, *proven), what="header")
    return _append(_registered(log, entry), candidate)


def _registered(log: Log, registration: Registration) -> Log:
    """Return the log after a registration. Raises `Discontinuous` if the registry does not accept it."""
    accepted = log.registry.accepted(registration.height, registration.index, registration.payload)
    if isinstance(accepted, str):
        raise Discontinuous(what="registration", reason=accepted)
    return replace(log, registry=accepted.advanced(log.tip.height))


def _convict(log: Log, find: Find, evidence: Evidence, *, what: str) -> Step:
    """Refuse a statement that contradicts an earlier one; keep both, once for each fault."""
    if not _convicts(log, evidence):
        raise Discontinuous(what=what, reason="differs from the one that is there, whose key counts no more")
    candidate = read_candidate(encode_settlement_entry(evidence))
    known = find(candidate.name)
    if known is not None:
        return Step(log, _contradiction(what, known.index))
    return replace(_append(log, candidate), answer=_contradiction(what, log.size))


def _convicts(log: Log, evidence: Evidence) -> bool:
    """Answer whether evidence made of two valid statements holds.

    It does not if a registration that came late changed whose signature counted for the first of them.
    """
    try:
        verify_evidence(evidence, chain=log.genesis.chain_id, registry=log.registry)
    except (BadSignature, UnknownKey):
        return False
    return True


def _contradiction(what: str, index: int) -> Contradiction:
    return Contradiction(what=what, evidence=f"entry {index} of the settlement log")


def _append(
    log: Log, candidate: Candidate, names: Mapping[str, int] | None = None, flag: Evidence | None = None
) -> Step:
    """Append an entry, and evidence that it gives rise to."""
    appended = [candidate]
    if flag is not None:
        appended.append(read_candidate(encode_settlement_entry(flag)))
    borne = dict(names or {})
    for index, each in enumerate(appended, log.size):
        borne[leaf_name(each.encoded)] = borne[each.name] = index
    evidence_count = log.evidence_count + sum(isinstance(each.entry, Evidence) for each in appended)
    grown = replace(log, size=log.size + len(appended), evidence_count=evidence_count)
    return Step(grown, log.size, tuple(each.encoded for each in appended), borne)


def _tip_at(log: Log, newest_range: bytes) -> Log:
    """Return the log with its tip after an encoded range; as it is if there was none yet."""
    return _tip_moved(log, _decoded(newest_range, HeaderRange)) if newest_range else log


def _tip_moved(log: Log, entry: HeaderRange) -> Log:
    """Return the log with the end of a range as its tip, and what is due by then in effect."""
    header = entry.last.header
    tip = tip_of(header, header_hash(entry.last.encoded))
    return replace(log, tip=tip, registry=log.registry.advanced(header.height))


def _name_of(encoded: bytes, entry: SettlementEntry) -> str:
    match entry:
        case GenesisEntry():
            return leaf_name(encoded)
        case HeaderRange():
            return range_name(entry.last.header.height)
        case CommitmentEntry(posted=posted):
            return commitment_name(posted.commitment.rollup, posted.attester, posted.commitment.height)
        case Evidence():
            return evidence_name(entry)
        case Registration():
            change = decode_registry_entry(entry.payload).change
            return registration_name(change.subject, change.sequence)


def _decoded(encoded: bytes, kind: type[_Entry]) -> _Entry:
    """Return an entry of the log whose kind is known from where it was found."""
    entry = decode_settlement_entry(encoded)
    assert isinstance(entry, kind), f"an entry of the log is no {kind.__name__}: {encoded.hex()}"
    return entry


def _anchored_hash(about: Found) -> HeaderHash:
    return header_hash(_decoded(about.entry, HeaderRange).last.encoded)


def _require_chain(log: Log, chain: ChainId) -> None:
    if chain != log.genesis.chain_id:
        raise WrongChain(expected=log.genesis.chain_id.hex(), found=chain.hex())
