"""One round: observe -> plan -> apply -> report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from controller.core.model import Millis, Outcome, OutcomeStatus, Plan, World
from controller.core.plan import agents_to_ask, compute_plan, needs_second_look
from controller.core.policy import Policy
from controller.core.reads import agent_ref
from controller.reconcile.apply import Applier
from controller.reconcile.due import Due
from controller.reconcile.keepalives import Keepalives
from controller.reconcile.observe import Observer
from controller.reconcile.ports import AgentReader, NotesWriter

Report = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class View:
    """What was seen and what follows from it; nothing was written."""

    world: World
    plan: Plan


@dataclass(frozen=True, slots=True)
class Round:
    """One pass: what was seen, what was decided, what came of it."""

    world: World
    plan: Plan
    outcomes: tuple[Outcome, ...]

    @property
    def progressed(self) -> bool:
        """Whether anything was done."""
        return any(o.status is OutcomeStatus.DONE for o in self.outcomes)


class Planner:
    """Observes and decides. It is given nothing that can write."""

    def __init__(
        self, observer: Observer, policy: Policy, clock: Callable[[], Millis], agents: AgentReader | None = None
    ) -> None:
        self._observer = observer
        self.policy = policy
        self._clock = clock
        self._agents = agents

    def view(self, nominated_before: frozenset[str] = frozenset()) -> View:
        """Return the world and its plan; nominated_before is what an earlier complete plan would have stopped."""
        world = self._heard(self._observer.observe(nominated_before))
        return View(world, compute_plan(world, self.policy, self._clock()))

    def _heard(self, world: World) -> World:
        """Ask the agents of which the planner needs an answer; only core says which."""
        if self._agents is None:
            return world
        refs = [agent_ref(record, task) for record, task in agents_to_ask(world, self.policy, self._clock())]
        return replace(world, agents=self._agents.ask([ref for ref in refs if ref]))

    def twice(self) -> View:
        """Return the view of one who looks only once: where two looks must agree, both are taken now."""
        first = self.view()
        return self.view(first.plan.nominated) if needs_second_look(first.plan) else first


class Reconciler:
    """Runs rounds. What a round has nominated for a stop is the first of the two looks that the next one needs."""

    def __init__(
        self,
        planner: Planner,
        applier: Applier,
        notes: NotesWriter,
        due: Due | None = None,
        keepalives: Keepalives | None = None,
    ) -> None:
        self.planner = planner
        self._applier = applier
        self._notes = notes
        self._keepalives = keepalives
        self.due = due or Due()
        self._nominated: frozenset[str] = frozenset()

    def round(self, report: Report | None = None, view: View | None = None) -> Round:
        """Observe (unless a fresh view is given), plan and apply; report is called for each outcome as it happens."""
        view = view or self.planner.view(self._nominated)
        self._nominated = view.plan.nominated
        self._keep_first_sights(view.world)
        outcomes = []
        for outcome in self._applier.apply(view.plan, view.world):
            outcomes.append(outcome)
            if report:
                report(outcome)
        if self._keepalives:
            self._keepalives.send(view.world)
        self.due.replace(_deadlines(view.plan, outcomes))
        return Round(view.world, view.plan, tuple(outcomes))

    def _keep_first_sights(self, world: World) -> None:
        """Note new unreadable rows, and forget those that are mended: the next illness of a row protects anew."""
        unreadable = {row.note for row in world.quarantined}
        for row in world.quarantined:
            if row.note not in world.noted:
                self._notes.note_first_seen(row.note, row.first_seen)
        if world.complete:
            for key in sorted(world.noted - unreadable):
                self._notes.forget_first_seen(key)


def _deadlines(plan: Plan, outcomes: list[Outcome]) -> Iterator[tuple[str, Millis]]:
    yield from ((a.container_id, a.until) for a in plan.actions if a.until is not None)
    yield from ((o.action.container_id, o.again_at) for o in outcomes if o.again_at is not None)
