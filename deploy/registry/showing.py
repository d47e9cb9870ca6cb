"""How the registry, and what became of a change, look: JSON for programs, tables for people.

Owns the layouts. Decides nothing.

    registry  {"ok": true, "chain_id": HEX, "height": N, "time_ms": N, "rules_version": N,
               "keys": {ROLE: HEX, ...},
               "rollups": [{"id", "status": "ACTIVE" | "DRAINING" | "LEFT", "drained_ms", "threshold",
                            "attesters": [HEX, ...],
                            "quota": null | {"transactions_per_second", "bytes_per_second"}}, ...],
               "pending": [{"subject", "kind", "sequence", "effective_height", "signed_by", "ordered_height",
                            "leaves_ms": null | N}, ...]}
    change    {"ok": true, "subject", "kind", "sequence", "effective_height", "signed_by", "ordered_height",
               "index", "outcome": "ACCEPTED" | "EFFECTIVE", "leaves_ms": null | N, "time_ms": N,
               "settlement_index": null | N, "settlement_error": ""}
"""

from typing import Any

import click

from deploy.commands.frame import print_table
from deploy.registry.changing import Done
from deploy.registry.following import ChainRegistry
from lockstep import limits
from lockstep.registry import RollupRecord
from lockstep.registry_entries import Leave, RegistryChange, SignedBy, Veto
from lockstep.registry_state import PendingChange, Registry
from lockstep.types import RollupId


def registry_json(chain: ChainRegistry) -> dict[str, Any]:
    """Return the registry as of the newest block."""
    registry = chain.registry
    return {
        "ok": True,
        "chain_id": registry.chain_id.hex(),
        "height": chain.tip.height,
        "time_ms": chain.tip.time_ms,
        "rules_version": registry.rules_version,
        "keys": {role: key.hex() for role, key in registry.keys.items()},
        "rollups": [_rollup_json(record) for _, record in sorted(registry.rollups.items())],
        "pending": [_pending_json(registry, each) for each in registry.pending],
    }


def change_json(done: Done, settlement_error: str) -> dict[str, Any]:
    """Return what became of a change."""
    return {
        "ok": not settlement_error,
        **_change_json(done.change, done.signed_by),
        "ordered_height": done.placement.height,
        "index": done.placement.first_index,
        "outcome": done.outcome.name,
        "leaves_ms": done.leaves_ms,
        "time_ms": done.time_ms,
        "settlement_index": done.settlement_index,
        "settlement_error": settlement_error,
    }


def show_registry(chain: ChainRegistry) -> None:
    """Print the registry as tables."""
    told = registry_json(chain)
    click.echo(
        f"block {told['height']}, log time {told['time_ms']} ms, rules version {told['rules_version']}\n"
    )
    print_table(("role", "key"), told["keys"].items())
    click.echo()
    rollups = [row for each in told["rollups"] for row in _rollup_rows(each)]
    print_table(("rollup", "status", "attesters", "quota", "attester"), rollups)
    if told["pending"]:
        click.echo()
        head = ("pending change", "of", "sequence", "ordered in block", "takes effect")
        print_table(head, map(_pending_row, told["pending"]))


def _rollup_rows(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each attester of a rollup; what holds for all of them stands in the first."""
    quota = told["quota"]
    share = "default" if quota is None else " ".join(f"{value} {name}" for name, value in quota.items())
    needed = f"{told['threshold']} of {len(told['attesters'])}"
    first, *others = told["attesters"]
    return [(told["id"], told["status"], needed, share, first), *(("", "", "", "", each) for each in others)]


def _pending_row(told: dict[str, Any]) -> tuple[str, ...]:
    when = f"block {told['effective_height']}"
    if told["leaves_ms"] is not None:
        when += f" and log time {told['leaves_ms']} ms"
    return (told["kind"], told["subject"], str(told["sequence"]), str(told["ordered_height"]), when)


def show_change(done: Done) -> None:
    """Print what became of a change."""
    change, place = done.change, done.placement
    click.echo(
        f"{change.kind.name} of {change.subject}, its change {change.sequence}: ordered in block "
        f"{place.height} and accepted"
    )
    click.echo(_when(done))
    if done.settlement_index is not None:
        click.echo(f"the settlement log has it as entry {done.settlement_index}")


def _when(done: Done) -> str:
    if isinstance(done.change.action, Veto):
        return f"change {done.change.action.vetoed_sequence} of {done.change.subject} will not take effect"
    if done.outcome.name == "EFFECTIVE":
        return f"it holds from block {done.change.effective_height} on"
    if done.leaves_ms is not None and done.leaves_ms > done.time_ms:
        hours = (done.leaves_ms - done.time_ms) / 3_600_000
        return (
            f"it stays pending until the rollup has drained for a day of log time: {hours:.1f} hours "
            f"from now, at {done.leaves_ms} ms"
        )
    return f"it takes effect at block {done.change.effective_height}"


def _rollup_json(record: RollupRecord) -> dict[str, Any]:
    quota = record.quota
    return {
        "id": record.definition.id,
        "status": record.status.name,
        "drained_ms": record.drained_ms,
        "attesters": [key.hex() for key in record.attesters.keys],
        "threshold": record.attesters.threshold,
        "quota": None
        if quota is None
        else {
            "transactions_per_second": quota.transactions_per_second,
            "bytes_per_second": quota.bytes_per_second,
        },
    }


def _pending_json(registry: Registry, pending: PendingChange) -> dict[str, Any]:
    change = pending.entry.change
    leaves_ms = None
    if isinstance(change.action, Leave):
        leaves_ms = registry.rollups[RollupId(change.subject)].drained_ms + limits.DRAIN_MS_MIN
    return {
        **_change_json(change, pending.entry.signed_by),
        "ordered_height": pending.height,
        "leaves_ms": leaves_ms,
    }


def _change_json(change: RegistryChange, signed_by: SignedBy) -> dict[str, Any]:
    return {
        "subject": change.subject,
        "kind": change.kind.name,
        "sequence": change.sequence,
        "effective_height": change.effective_height,
        "signed_by": signed_by.name,
    }
