"""How swaps are shown: progress, the table at the end, lists, and all of it for programs.

Owns words and shapes, and nothing that they tell of. With --json stdout has one document; progress goes to
stderr, and to it alone.
"""

import shlex
from collections.abc import Sequence
from typing import Any, Final

import click

from bridge.client import (
    Driven,
    Explanation,
    LegEnd,
    Progress,
    RecordedSwap,
    Role,
    Standing,
    SwapPhase,
    SwapView,
)
from deploy.commands.frame import EXIT_DONE, EXIT_FAILED, Options, print_json, print_table
from deploy.commands.swap_terms import SHORT_DIGITS, Names, leg_json
from lockstep.receipts import PremiumOutcome, SettlementCode
from lockstep.terms import Terms
from lockstep.types import PublicKey, SwapId

_DEADLINE_INDEX: Final = 4_294_967_295


def typed(options: Options, *words: str) -> str:
    """Return a command as it can be typed for the same network."""
    named = () if options.network_path is None else ("--network", str(options.network_path))
    return shlex.join(("lockstep", *words, *named))


class Telling:
    """Tells progress as it happens, and keeps it for the document at the end."""

    def __init__(self, options: Options, *, prefix: str = "") -> None:
        """Tell people on stderr, each line after `prefix`; programs get it at the end."""
        self.steps: list[Progress] = []
        """Everything that was told."""
        self._is_shown = not options.is_json
        self._prefix = prefix

    def __call__(self, progress: Progress) -> None:
        """Tell something."""
        self.steps.append(progress)
        if self._is_shown:
            step = click.style(f"{progress.step:<13}", bold=True)
            click.echo(f"{self._prefix}{progress.elapsed_ms:>7} ms  {step}  {progress.text}", err=True)

    def json(self) -> list[dict[str, Any]]:
        """Return it for a program."""
        return [{"step": each.step, "text": each.text, "elapsed_ms": each.elapsed_ms} for each in self.steps]


def failure_of(swap: RecordedSwap) -> SwapPhase | None:
    """Return how a swap ended if its trader wanted otherwise: to have it, or to have it cancelled."""
    if swap.outcome is None or (swap.outcome is SwapPhase.COMMITTED) is not swap.is_cancelling:
        return None
    return swap.outcome


def exit_code_of(driven: Driven) -> int:
    """Return 1 for a swap that ended otherwise than its trader wanted."""
    return EXIT_DONE if failure_of(driven.swap) is None else EXIT_FAILED


def driven_json(
    driven: Driven, telling: Telling, following: Sequence[str], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return where a drive ended, for a program."""
    swap, standing, failure = driven.swap, driven.standing, failure_of(driven.swap)
    ends = {end.leg: _end_json(end) for end in driven.ends}
    failed = {} if failure is None else {"code": failure.name, "error": f"the swap is {failure.name}"}
    return {
        "ok": failure is None,
        **failed,
        "swap_id": swap.swap_id.hex(),
        "account": swap.account.hex(),
        "phase": (swap.outcome or (SwapPhase.COLLECTING if standing is None else standing.phase)).name,
        "outcome": None if swap.outcome is None else swap.outcome.name,
        "reason": "" if standing is None else standing.reason,
        "legs": [
            leg_json(place, leg) | {"ended": ends.get(place)} for place, leg in enumerate(swap.terms.legs)
        ],
        "elapsed_ms": driven.elapsed_ms,
        "steps": telling.json(),
        "next": list(following),
        "warnings": list(warnings),
    }


def show_driven(driven: Driven, names: Names, following: Sequence[str]) -> None:
    """Show where a drive ended: the outcome and each leg; or what is waited for."""
    swap, standing = driven.swap, driven.standing
    if swap.outcome is None:
        phase = "not known to anybody yet" if standing is None else standing.phase.name
        click.echo(f"swap {swap.swap_id.hex()}: {phase}")
    else:
        reason = f" because of {standing.reason}" if standing is not None and standing.reason else ""
        colour = "green" if swap.outcome is SwapPhase.COMMITTED else "yellow"
        outcome = click.style(swap.outcome.name, fg=colour, bold=True)
        click.echo(f"swap {swap.swap_id.hex()}: {outcome}{reason}, after {driven.elapsed_ms} ms")
        rows = [
            (*row, _end_words(driven, place, names)) for place, row in enumerate(leg_rows(swap.terms, names))
        ]
        print_table(("leg", "rollup", "from", "to", "amount", "ended"), rows)
    for line in following:
        click.echo(line)


def leg_rows(terms: Terms, names: Names) -> list[tuple[str, ...]]:
    """Return a row for each leg: place, rollup, sender, recipient, amount."""
    return [
        (
            str(place),
            leg.rollup,
            names.account(leg.sender),
            names.account(leg.recipient),
            names.amount(leg.rollup, leg.asset, leg.amount),
        )
        for place, leg in enumerate(terms.legs)
    ]


def accept_lines(options: Options, swap: RecordedSwap, names: Names) -> list[str]:
    """Return what each of the others has to type."""
    others = dict.fromkeys(leg.sender for leg in swap.terms.legs if leg.sender != swap.account)
    return [
        typed(
            options, "swap", "accept", swap.swap_id.hex(), "--key",
            names.by_account.get(PublicKey(other), "KEY"),
        )
        for other in others
    ]  # fmt: skip


# --- what the coordinator tells ---------------------------------------------------------------------------


def view_json(view: SwapView) -> dict[str, Any]:
    """Return a coordinator's view for a program."""
    return {
        "swap_id": view.swap_id.hex(),
        "phase": view.phase.name,
        "abort_reason": view.abort_reason.name,
        "reason_legs": list(view.reason_legs),
        "legs": [
            leg_json(place, leg)
            | {"state": told.state.name, "reject_reason": told.reject_reason.name, "settled": told.settled}
            for place, (leg, told) in enumerate(zip(view.terms.legs, view.legs, strict=True))
        ],
        "opened_height": view.opened_height,
        "decided_height": view.decided_height,
        "level": view.level.name,
        "next_action": view.next_action,
        "funds_safe": view.funds_safe,
        "funds_free_by_ms": view.funds_free_by_ms,
        "lock_by_ms": view.terms.lock_by_ms,
        "expires_ms": view.terms.expires_ms,
        "revealer": view.terms.revealer.hex(),
        "sequence": view.sequence,
    }


def show_view(view: SwapView, names: Names) -> None:
    """Show a coordinator's view: where the swap stands, its legs, and what is to be done."""
    reason = "" if view.abort_reason.value == 0 else f" because of {view.abort_reason.name}"
    phase = click.style(view.phase.name, bold=True)
    level = f", {view.level.name}" if view.level.value else ""
    click.echo(f"swap {view.swap_id.hex()}: {phase}{reason}{level}")
    rows = [(*row, _state_words(view, place)) for place, row in enumerate(leg_rows(view.terms, names))]
    print_table(("leg", "rollup", "from", "to", "amount", "state"), rows)
    click.echo(f"to do: {view.next_action}")
    safe = "nothing is in escrow or can get there" if view.funds_safe else "funds may be in escrow"
    click.echo(f"{safe}; all are free by log time {view.funds_free_by_ms}")


def show_standing(swap_id: SwapId, terms: Terms, standing: Standing, names: Names) -> None:
    """Show what the rollups prove of a swap."""
    reason = f" because of {standing.reason}" if standing.reason else ""
    click.echo(f"swap {swap_id.hex()}: {click.style(standing.phase.name, bold=True)}{reason}")
    rows = [(*row, state.name) for row, state in zip(leg_rows(terms, names), standing.legs, strict=True)]
    print_table(("leg", "rollup", "from", "to", "amount", "state"), rows)
    click.echo(f"proven by {standing.source}")


def standing_json(swap_id: SwapId, terms: Terms, standing: Standing) -> dict[str, Any]:
    """Return what the rollups prove of a swap, for a program."""
    return {
        "swap_id": swap_id.hex(),
        "phase": standing.phase.name,
        "reason": standing.reason,
        "legs": [
            leg_json(place, leg) | {"state": state.name}
            for place, (leg, state) in enumerate(zip(terms.legs, standing.legs, strict=True))
        ],
        "opened_height": standing.opened_height,
        "decided_height": standing.decided_height,
        "source": standing.source,
    }


def show_explanation(told: Explanation, names: Names) -> None:
    """Show everything that a coordinator knows of a swap."""
    show_view(told.swap, names)
    rows = [
        (
            "" if event.height == 0 else str(event.height),
            _place_words(event.height, event.index),
            str(event.time_ms),
            event.kind,
            event.text,
        )
        for event in told.events
    ]
    print_table(("block", "entry", "log time", "event", "what"), rows)
    if told.waiting_for:
        click.echo(f"waiting for {told.waiting_for}")


def explanation_json(told: Explanation) -> dict[str, Any]:
    """Return everything that a coordinator knows of a swap, for a program."""
    return {
        "ok": True,
        "swap": view_json(told.swap),
        "events": [
            {
                "height": event.height,
                "index": event.index,
                "time_ms": event.time_ms,
                "kind": event.kind,
                "text": event.text,
            }
            for event in told.events
        ],
        "waiting_for": told.waiting_for,
    }


def change_line(view: SwapView, names: Names) -> str:
    """Return a change of a swap in one line."""
    states = " ".join(_state_words(view, place) for place in range(len(view.legs)))
    reason = "" if view.abort_reason.value == 0 else f" because of {view.abort_reason.name}"
    given = " for ".join(names.leg(leg) for leg in view.terms.legs)
    head = f"{view.sequence}  {view.swap_id.hex()[:SHORT_DIGITS]}"
    return f"{head}  {view.phase.name:<10}  {states}{reason}  {given}"


# --- lists ------------------------------------------------------------------------------------------------


def show_list(
    options: Options,
    recorded: Sequence[RecordedSwap],
    views: dict[SwapId, SwapView],
    names: Names,
    *,
    notice: str,
) -> None:
    """Show swaps of the wallet and of the coordinator: one line for each, and account, that is known."""
    mine = {swap.swap_id for swap in recorded}
    others = [view for swap_id, view in views.items() if swap_id not in mine]
    if options.is_json:
        print_json(
            {
                "ok": True,
                "wallet": [_recorded_json(swap, views.get(swap.swap_id)) for swap in recorded],
                "coordinator": [view_json(view) for view in others],
                "notice": notice,
            }
        )
        return
    rows = [_recorded_row(swap, views.get(swap.swap_id), names) for swap in recorded]
    rows += [
        (view.swap_id.hex()[:SHORT_DIGITS], "", "", _sides(view.terms, names), view.phase.name)
        for view in others
    ]
    print_table(("swap", "account", "role", "legs", "stands"), rows)
    if notice:
        click.echo(notice, err=True)


def _recorded_row(swap: RecordedSwap, view: SwapView | None, names: Names) -> tuple[str, ...]:
    return (
        swap.swap_id.hex()[:SHORT_DIGITS],
        names.account(swap.account),
        swap.role.value,
        _sides(swap.terms, names),
        _stands(swap, view),
    )


def _recorded_json(swap: RecordedSwap, view: SwapView | None) -> dict[str, Any]:
    return {
        "swap_id": swap.swap_id.hex(),
        "account": swap.account.hex(),
        "role": swap.role.value,
        "is_proposer": swap.role is Role.PROPOSER,
        "legs": [leg_json(place, leg) for place, leg in enumerate(swap.terms.legs)],
        "locks_signed": sorted(swap.locks),
        "is_revealing": swap.is_revealing,
        "is_cancelling": swap.is_cancelling,
        "outcome": None if swap.outcome is None else swap.outcome.name,
        "phase": None if view is None else view.phase.name,
        "next_action": None if view is None else view.next_action,
    }


def _stands(swap: RecordedSwap, view: SwapView | None) -> str:
    if swap.outcome is not None:
        return f"{swap.outcome.name}, checked"
    return "unknown" if view is None else view.phase.name


def _sides(terms: Terms, names: Names) -> str:
    return ", ".join(f"{names.account(leg.sender)} {names.leg(leg)}" for leg in terms.legs)


def _state_words(view: SwapView, place: int) -> str:
    told = view.legs[place]
    reason = f" ({told.reject_reason.name})" if told.reject_reason.value else ""
    return f"{told.state.name}{reason}{', settled' if told.settled else ''}"


def _place_words(height: int, index: int) -> str:
    if height == 0:
        return ""
    return "deadline" if index == _DEADLINE_INDEX else str(index)


def _end_words(driven: Driven, leg: int, names: Names) -> str:
    end = next((end for end in driven.ends if end.leg == leg), None)
    if end is None:
        is_own = leg in {*driven.swap.own_legs, *driven.swap.received_legs}
        return "checked before" if is_own else "of others, not checked"
    if end.receipt is None:
        return "never left its sender"
    verb = "went to" if end.receipt.code is SettlementCode.COMMITTED else "went back to"
    premium = ", its premium was paid" if end.receipt.premium_outcome is PremiumOutcome.PAID else ""
    return f"{verb} {names.account(end.receipt.beneficiary)} in block {end.receipt.height}{premium}"


def _end_json(end: LegEnd) -> dict[str, Any]:
    if end.receipt is None:
        return {"code": "NEVER_LOCKED"}
    return {
        "code": end.receipt.code.name,
        "beneficiary": end.receipt.beneficiary.hex(),
        "amount": str(end.receipt.amount),
        "height": end.receipt.height,
        "index": end.receipt.index,
        "premium_outcome": end.receipt.premium_outcome.name,
    }
