"""What ordered and logged entries say, in words.

Owns the sentences. What cannot be read is said to be so: anybody may have anything ordered. Signatures are
the services' to judge; these are words about bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from deploy.commands.parameters import find_asset, in_units
from lockstep.checkpoint import parse_checkpoint, parse_note
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.registry_entries import (
    RegisterRollup,
    RotateAttester,
    RotateKey,
    SetAttesters,
    SetQuota,
    SetRules,
    Veto,
    decode_registry_entry,
)
from lockstep.settlement_entries import (
    CommitmentEntry,
    Evidence,
    GenesisEntry,
    HeaderRange,
    Registration,
    decode_log_entry,
    decode_settlement_entry,
)
from lockstep.swap_entries import Attest, Cancel, Open, Reveal, Verdict, decode_swap_entry
from lockstep.terms import Leg
from lockstep.transactions import Faucet, Lock, Method, Transfer, decode_call, decode_transaction
from lockstep.types import LOG_NAMESPACE, REGISTRY_NAMESPACE, SWAP_NAMESPACE, Namespace, PublicKey

_SHORT: Final = 12
"""Digits of a key or an id by which people tell it from others."""


@dataclass(frozen=True, slots=True)
class Words:
    """How one chain's entries are told."""

    genesis: Genesis
    """The chain, for the decimals of its assets."""
    names: Mapping[PublicKey, str]
    """The names of accounts that the reader knows."""

    def entry(self, namespace: Namespace, payload: bytes) -> str:
        """Return what an entry of the order says."""
        tell = _TELL.get(namespace, Words._transaction)
        try:
            return tell(self, payload)
        except Malformed as error:
            return f"cannot be read: {error.fields['field']} {error.fields['reason']}"

    def logged(self, encoded: bytes) -> str:
        """Return what an entry of the settlement log says. Raises Malformed: the log takes nothing else."""
        entry = decode_settlement_entry(encoded)
        match entry:
            case GenesisEntry():
                return f"genesis: the log {entry.origin} is for chain {entry.chain.hex()}"
            case HeaderRange():
                first, last = entry.first_height, entry.last.header.height
                return (
                    f"header {last} is anchored"
                    if first == last
                    else f"headers {first} to {last} are anchored"
                )
            case CommitmentEntry(posted=posted):
                commitment = posted.commitment
                return (
                    f"commitment of {commitment.rollup} after block {commitment.height}, by attester "
                    f"{self.who(posted.attester)}: state root {commitment.state_root.hex()}"
                )
            case Evidence():
                return f"evidence: two {entry.kind.name} that contradict each other"
            case Registration():
                change = self.entry(REGISTRY_NAMESPACE, entry.payload)
                return f"ordered in block {entry.height} at place {entry.index}: {change}"

    def who(self, account: bytes) -> str:
        """Return an account's name, or the beginning of it."""
        return self.names.get(PublicKey(account), account.hex()[:_SHORT])

    def amount(self, rollup: str, asset: bytes, base_units: int) -> str:
        """Return an amount with its asset and rollup."""
        name = asset.decode("latin-1")
        try:
            shown = in_units(base_units, find_asset(self.genesis, rollup, name).decimals)
        except ValueError:
            shown = f"{base_units} base units of"
        return f"{shown} {name} on {rollup}"

    def _swap(self, payload: bytes) -> str:
        entry = decode_swap_entry(payload)
        match entry:
            case Open(swap_id=swap_id, terms=terms):
                legs = "; ".join(map(self._leg, terms.legs))
                return (
                    f"opens swap {swap_id.hex()}: {legs}; locked before {terms.lock_by_ms} ms, "
                    f"revealed before {terms.expires_ms} ms"
                )
            case Attest(attestation=said):
                verdicts = ", ".join(
                    f"leg {item.leg} of swap {item.swap_id.hex()} is {item.verdict.name}"
                    + ("" if item.verdict is Verdict.LOCKED else f" ({item.reason.name})")
                    for item in said.items
                )
                return f"{said.rollup} attests by {self.who(said.attester)}: {verdicts}"
            case Reveal(swap_id=swap_id):
                return f"reveals the preimage of swap {swap_id.hex()}"
            case Cancel(swap_id=swap_id):
                return f"cancels swap {swap_id.hex()}"

    def _leg(self, leg: Leg) -> str:
        amount = self.amount(leg.rollup, leg.asset, leg.amount)
        return f"{self.who(leg.sender)} gives {amount} to {self.who(leg.recipient)}"

    def _registry(self, payload: bytes) -> str:
        entry = decode_registry_entry(payload)
        change = entry.change
        return (
            f"{change.kind.name} of {change.subject}{self._content(change.action)}, its change "
            f"{change.sequence}, from block {change.effective_height} on, signed by {entry.signed_by.name}"
        )

    def _content(self, action: object) -> str:
        match action:
            case RotateKey(new_key=key):
                return f" to {self.who(key)}"
            case RotateAttester(old_key=old, new_key=new):
                return f" from {self.who(old)} to {self.who(new)}"
            case SetAttesters(attesters=attesters):
                keys = ", ".join(map(self.who, attesters.keys))
                return f" to {attesters.threshold} of {keys}"
            case Veto(vetoed_sequence=sequence):
                return f" against change {sequence}"
            case SetRules(version=version):
                return f" to version {version}"
            case SetQuota(quota=quota):
                if quota is None:
                    return " to the sequencer's default"
                return (
                    f" to {quota.transactions_per_second} transactions and "
                    f"{quota.bytes_per_second} bytes a second"
                )
            case RegisterRollup(definition=definition):
                return f" by a definition of {len(definition)} bytes"
            case _:
                return ""

    def _checkpoint(self, payload: bytes) -> str:
        checkpoint = parse_checkpoint(parse_note(decode_log_entry(payload)).body)
        return f"checkpoint of {checkpoint.origin}: {checkpoint.size} entries, root {checkpoint.root.hex()}"

    def _transaction(self, payload: bytes) -> str:
        transaction = decode_transaction(payload)
        signer, rollup = self.who(transaction.signer), transaction.rollup
        head = f"transaction {transaction.id.hex()}: {signer}"
        try:
            method = Method(transaction.method)
        except ValueError:
            return f"{head} calls method {transaction.method:#06x}"
        match decode_call(method, transaction.arguments):
            case Transfer(asset=asset, recipient=recipient, amount=amount):
                return f"{head} transfers {self.amount(rollup, asset, amount)} to {self.who(recipient)}"
            case Faucet(asset=asset, amount=amount):
                return f"{head} takes {self.amount(rollup, asset, amount)} from the faucet"
            case Lock(swap_id=swap_id, leg=leg):
                return f"{head} locks leg {leg} of swap {swap_id.hex()}"


_TELL: Final[Mapping[Namespace, Callable[[Words, bytes], str]]] = {
    SWAP_NAMESPACE: Words._swap,  # noqa: SLF001 - the table of this class
    REGISTRY_NAMESPACE: Words._registry,  # noqa: SLF001
    LOG_NAMESPACE: Words._checkpoint,  # noqa: SLF001
}
