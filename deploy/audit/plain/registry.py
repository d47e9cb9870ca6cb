"""Who and what the chain knows: protos/README.md, section 9, and the digest under the register's root.

What a change needs to be valid, and the layouts of the digest's map, are stated in the texts at the head of
`lockstep/registry.py`, `registry_kinds.py` and `registry_state.py`; no code of theirs is used.
"""

from copy import deepcopy
from dataclasses import dataclass

from deploy.audit.plain.reading import Bytes, Unreadable, hashed, is_rollup, is_signed, need, number
from deploy.audit.plain.trees import Map
from lockstep.errors import Malformed
from lockstep.genesis import Genesis, Modules, RollupDefinition, parse_rollup_definition
from lockstep.signing import is_registrable

__pure__ = True

REGISTER, SET_ATTESTERS, DRAIN, LEAVE, ROTATE_KEY, ROTATE_ATTESTER, VETO, SET_RULES, SET_QUOTA = range(1, 10)
ACTIVE, DRAINING, LEFT = 1, 2, 3
GOVERNANCE, SUBJECT = 1, 2
ROLES = ("sequencer", "settlement", "governance")
AHEAD_BLOCKS_MAX = 1_000_000
PENDING_MAX = 1_024
ROLLUPS_MAX = 1_021
"""Every rollup and the three system namespaces fit the 1,024 namespaces of a block."""
DAY_MS = 86_400_000

Attesters = tuple[int, tuple[bytes, ...]]
"""Threshold and keys."""


@dataclass
class Rollup:
    """What holds for a rollup."""

    attesters: Attesters
    quota: tuple[int, int]
    modules: Modules
    registered_as: bytes = b""
    status: int = ACTIVE
    drained_ms: int = 0


@dataclass(frozen=True)
class Change:
    """An entry of `_registry` that can be read, and where it stands; content stays as its bytes."""

    height: int
    index: int
    payload: bytes
    signed_by: int
    signature: bytes
    body: bytes
    chain: bytes
    kind: int
    subject: str
    sequence: int
    effective_height: int
    content: bytes


class Registry:
    """The registry, changed block after block."""

    def __init__(self, genesis: Genesis) -> None:
        self.chain = bytes(genesis.chain_id)
        self.delay_blocks = genesis.rotation_delay_blocks
        self.keys: dict[str, bytes] = {
            "sequencer": genesis.sequencer,
            "settlement": genesis.settlement.public_key,
            "governance": genesis.governance,
        }
        self.rules = genesis.rules_version
        self.rollups: dict[str, Rollup] = {each.id: rollup_of(each) for each in genesis.rollups}
        self.sequences: dict[str, int] = {}
        self.pending: list[Change] = []
        self.changed_height = 0
        self._digest = b""

    # --- the two acts of a block

    def take_effect(self, height: int, time_ms: int) -> None:
        """Do what is due at a height: the first act."""
        for change in [each for each in self.pending if self._is_due(each, height, time_ms)]:
            self.pending.remove(change)
            self._digest = b""
            own = self._own_key(change) if change.signed_by == SUBJECT else None
            replaced = own is not None and not is_signed("sign-registry", own, change.body, change.signature)
            if not replaced and self._is_possible(change):
                self._do(change, time_ms)
                self.changed_height = height

    def judge(self, height: int, index: int, payload: bytes) -> bool:
        """Take an entry of a block, the second act; answer whether it counts."""
        try:
            change = read_change(height, index, payload)
        except Unreadable:
            return False
        if not self._is_valid(change):
            return False
        self._digest = b""
        self.sequences[change.subject] = change.sequence
        if change.kind == VETO:
            vetoed = self._vetoed(change)
            self.pending = [each for each in self.pending if each is not vetoed]
        else:
            self.pending.append(change)
        return True

    def sequencer_key_at(self, height: int) -> bytes:
        """Return the key that signs the header at the next height, before its block is applied."""
        if not self.pending:
            return self.keys["sequencer"]
        # Only LEAVE depends on log time, and it changes no role's key.
        ahead = deepcopy(self)
        ahead.take_effect(height, 0)
        return ahead.keys["sequencer"]

    # --- the rules

    def _is_due(self, change: Change, height: int, time_ms: int) -> bool:
        if change.kind == LEAVE and time_ms < self.rollups[change.subject].drained_ms + DAY_MS:
            return False
        return height >= change.effective_height

    def _is_valid(self, change: Change) -> bool:
        ahead = change.effective_height - change.height
        if change.chain != self.chain or change.sequence != self.sequences.get(change.subject, 0) + 1:
            return False
        if not 1 <= ahead <= AHEAD_BLOCKS_MAX:
            return False
        if len(self.pending) >= PENDING_MAX and change.kind != VETO:
            return False
        signer: bytes | None = self.keys["governance"]
        if change.signed_by == SUBJECT:
            signer = self._own_key(change)
            if signer is None or ahead < self.delay_blocks:
                return False
            for each in self.pending:
                same = each.signed_by == SUBJECT and each.subject == change.subject
                if same and is_signed("sign-registry", signer, each.body, each.signature):
                    return False
        assert signer is not None, "governance has a key"
        if not is_signed("sign-registry", signer, change.body, change.signature):
            return False
        return self._is_possible(change)

    def _own_key(self, change: Change) -> bytes | None:
        """Return the key that a change replaces, if it replaces one."""
        if change.kind == ROTATE_KEY:
            return self.keys[change.subject]
        return change.content[:32] if change.kind == ROTATE_ATTESTER else None

    def _is_possible(self, change: Change) -> bool:
        """Answer whether the rule of its kind lets a change be."""
        rollup = self.rollups.get(change.subject)
        present = rollup is not None and rollup.status != LEFT
        if change.kind == REGISTER:
            return self._can_register(change)
        if change.kind == SET_ATTESTERS:
            return present and is_set(read_attesters(change.content))
        if change.kind == DRAIN:
            return rollup is not None and rollup.status == ACTIVE
        if change.kind == LEAVE:
            return rollup is not None and rollup.status == DRAINING
        if change.kind == ROTATE_KEY:
            awaited = [each.content for each in self.pending if each.kind == ROTATE_KEY]
            return is_registrable(change.content) and change.content not in [*self.keys.values(), *awaited]
        if change.kind == ROTATE_ATTESTER:
            if rollup is None or not present or change.content[:32] not in rollup.attesters[1]:
                return False
            return is_set(rotated(rollup.attesters, change.content))
        if change.kind == VETO:
            return self._vetoed(change) is not None
        if change.kind == SET_RULES:
            return int.from_bytes(change.content, "big") > self.rules
        return present

    def _can_register(self, change: Change) -> bool:
        awaited = {each.subject for each in self.pending if each.kind == REGISTER}
        if change.subject in self.rollups or change.subject in awaited:
            return False
        named = {*self.rollups, *self.sequences} - {*ROLES, "rules", change.subject}
        definition = definition_of(change)
        return len(named) < ROLLUPS_MAX and definition is not None and definition.id == change.subject

    def _vetoed(self, veto: Change) -> Change | None:
        named = (veto.subject, int.from_bytes(veto.content, "big"))
        for each in self.pending:
            if (each.subject, each.sequence) == named:
                return each
        return None

    def _do(self, change: Change, time_ms: int) -> None:
        """Do a change that is due and possible."""
        if change.kind == REGISTER:
            definition = definition_of(change)
            assert definition is not None, "it is possible"
            self.rollups[change.subject] = rollup_of(definition, change.content[4:])
            return
        if change.kind == ROTATE_KEY:
            self.keys[change.subject] = change.content
            return
        if change.kind == SET_RULES:
            self.rules = int.from_bytes(change.content, "big")
            return
        rollup = self.rollups[change.subject]
        if change.kind == SET_ATTESTERS:
            rollup.attesters = read_attesters(change.content)
        elif change.kind == ROTATE_ATTESTER:
            rollup.attesters = rotated(rollup.attesters, change.content)
        elif change.kind == DRAIN:
            rollup.status, rollup.drained_ms = DRAINING, time_ms
        elif change.kind == LEAVE:
            rollup.status = LEFT
        elif change.kind == SET_QUOTA:
            rollup.quota = read_quota(change.content)

    # --- the digest

    def digest(self) -> bytes:
        """Return the 32 bytes that stand for the registry in the register's root."""
        if not self._digest:
            content = Map()
            content.put(b"\x03", number(self.rules, 2))
            for name, rollup in self.rollups.items():
                quota = number(rollup.quota[0], 4) + number(rollup.quota[1], 4)
                head = number(1, 1) + number(rollup.status, 1) + number(rollup.drained_ms, 8) + quota
                content.put(
                    b"\x01" + name.encode(), head + attester_bytes(rollup.attesters) + rollup.registered_as
                )
            for role, key in self.keys.items():
                content.put(b"\x02" + role.encode(), key)
            for subject, sequence in self.sequences.items():
                content.put(b"\x04" + subject.encode(), number(sequence, 8))
            for each in self.pending:
                place = number(each.height, 8) + number(each.index, 4)
                key = b"\x05" + each.subject.encode() + number(each.sequence, 8)
                content.put(key, place + each.payload)
            self._digest = hashed("registry", number(self.changed_height, 8) + content.root())
        return self._digest


# --- bytes ------------------------------------------------------------------------------------------------


def read_change(height: int, index: int, payload: bytes) -> Change:
    """Read an entry of `_registry`. Raises `Unreadable`."""
    source = Bytes(payload)
    need(source.number(1) == 1)
    signed_by = source.number(1)
    need(signed_by in (GOVERNANCE, SUBJECT))
    signature, body = source.take(64), source.rest()
    source = Bytes(body)
    chain, kind = source.take(32), source.number(1)
    need(kind in range(1, 10))
    subject = source.var(1, 1, 32).decode("latin-1")
    need(can_be_subject(kind, subject))
    sequence, effective_height = source.number(8), source.number(8)
    need(1 <= sequence < 2**63 and 1 <= effective_height < 2**63)
    content = source.rest()
    verify_content(kind, content)
    return Change(
        height,
        index,
        payload,
        signed_by,
        signature,
        body,
        chain,
        kind,
        subject,
        sequence,
        effective_height,
        content,
    )


def can_be_subject(kind: int, subject: str) -> bool:
    """Answer whether a kind of change can be about a subject."""
    if kind == ROTATE_KEY:
        return subject in ROLES
    if kind == SET_RULES:
        return subject == "rules"
    return is_rollup(subject) and (kind == VETO or subject not in (*ROLES, "rules"))


def verify_content(kind: int, content: bytes) -> None:
    """Insist on the layout of a kind's content."""
    source = Bytes(content)
    if kind == REGISTER:
        source.var(4, 1, 65_536)
    elif kind == SET_ATTESTERS:
        read_attesters(content)
        source.rest()
    elif kind == SET_QUOTA:
        need((source.number(4) == 0) == (source.number(4) == 0))
    else:
        source.take({ROTATE_KEY: 32, ROTATE_ATTESTER: 64, VETO: 8, SET_RULES: 2}.get(kind, 0))
    source.end()


def read_attesters(content: bytes) -> Attesters:
    """Read a set of attesters. Raises `Unreadable`."""
    source = Bytes(content)
    threshold, count = source.number(1), source.number(1)
    need(1 <= count <= 16)
    keys = tuple(source.take(32) for _ in range(count))
    source.end()
    return threshold, keys


def read_quota(content: bytes) -> tuple[int, int]:
    """Read a quota; two zeros leave it to the sequencer."""
    return int.from_bytes(content[:4], "big"), int.from_bytes(content[4:], "big")


def attester_bytes(attesters: Attesters) -> bytes:
    """Write a set of attesters."""
    threshold, keys = attesters
    return number(threshold, 1) + number(len(keys), 1) + b"".join(keys)


def is_set(attesters: Attesters) -> bool:
    """Answer whether a set of attesters may be registered."""
    threshold, keys = attesters
    if not all(map(is_registrable, keys)) or len(set(keys)) < len(keys):
        return False
    return len(keys) < 2 * threshold and threshold <= len(keys)


def rotated(attesters: Attesters, content: bytes) -> Attesters:
    """Return a set with one key in the place of another."""
    threshold, keys = attesters
    return threshold, tuple(content[32:] if key == content[:32] else key for key in keys)


def definition_of(change: Change) -> RollupDefinition | None:
    """Return the definition that a registration brings, if it is one."""
    try:
        return parse_rollup_definition(change.content[4:])
    except Malformed:
        return None


def rollup_of(definition: RollupDefinition, registered_as: bytes = b"") -> Rollup:
    """Return what holds for a rollup when it is registered."""
    quota = definition.quota
    return Rollup(
        attesters=(definition.attesters.threshold, tuple(definition.attesters.keys)),
        quota=(quota.transactions_per_second, quota.bytes_per_second) if quota else (0, 0),
        modules=definition.modules,
        registered_as=registered_as,
    )
