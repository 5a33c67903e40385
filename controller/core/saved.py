"""A saved plan: what an operator has read and agreed to, and which of it still holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from controller.core.conditions import main_action
from controller.core.fingerprint import Change, basis, changes, fingerprint
from controller.core.model import Action, Millis, Plan

Basis = Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class SavedAction:
    """One change of a saved plan, as it was shown, and what it rested on."""

    container_id: str
    action: str
    reason: str
    message: str
    fingerprint: str
    basis: Basis = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """The changes of a plan, when it was made and for which cluster."""

    at: Millis
    cluster: str
    actions: tuple[SavedAction, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """A saved change that no longer holds, and what is decided for its container now (None: nothing is known of it)."""

    saved: SavedAction
    now: Action | None

    @property
    def changes(self) -> tuple[Change, ...]:
        """What it rested on and has another value now."""
        return changes(self.saved.basis, self.now) if self.now else ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a fresh plan that was agreed to, and the part of the agreement that the world has passed by."""

    plan: Plan
    stale: tuple[Stale, ...]


def save(plan: Plan, cluster: str) -> SavedPlan:
    """Return what is to be kept of a plan: its changes."""
    actions = (
        SavedAction(a.container_id, str(a.kind), str(a.reason), a.message, fingerprint(a), basis(a))
        for a in plan.changes
    )
    return SavedPlan(plan.at, cluster, tuple(actions))


def select(plan: Plan, saved: SavedPlan) -> Selection:
    """Return the fresh plan with only those changes whose fingerprints were saved, and the saved ones it lacks."""
    agreed = {s.fingerprint for s in saved.actions}
    kept = tuple(a for a in plan.actions if not a.kind.changes or fingerprint(a) in agreed)
    there = {fingerprint(a) for a in kept if a.kind.changes}
    stale = (Stale(s, _now(plan.actions, s)) for s in saved.actions if s.fingerprint not in there)
    return Selection(replace(plan, actions=kept), tuple(stale))


def _now(actions: Iterable[Action], saved: SavedAction) -> Action | None:
    here = [a for a in actions if a.container_id == saved.container_id]
    same = [a for a in here if a.kind == saved.action]
    changing = [a for a in here if a.kind.changes]
    return (same or changing or [main_action(here)])[0] if here else None
