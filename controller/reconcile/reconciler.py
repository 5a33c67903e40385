"""One round over all containers, or over those that are due: observe -> plan -> apply -> report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from controller.core.model import SECOND, ActionKind, Millis, Outcome, OutcomeStatus, Plan, Reason, World
from controller.core.plan import agents_to_ask, compute_plan, needs_second_look
from controller.core.policy import Policy
from controller.core.reads import Hint, agent_ref
from controller.reconcile.apply import Applier
from controller.reconcile.due import Due
from controller.reconcile.keepalives import Keepalives
from controller.reconcile.observe import Observer
from controller.reconcile.ports import AgentReader, NotesWriter

Report = Callable[[Outcome], None]
SECOND_GLANCE: Millis = SECOND
"""After a stale look at everything, what was hinted is looked at once more: the row may not have been in it yet."""


@dataclass(frozen=True, slots=True)
class View:
    """What was seen and what follows from it; nothing was written."""

    world: World
    plan: Plan


@dataclass(frozen=True, slots=True)
class Round:
    """One pass: what was seen, what was decided, what came of it, and the hints that it has answered."""

    world: World
    plan: Plan
    outcomes: tuple[Outcome, ...]
    answered: tuple[Hint, ...] = field(default=())

    @property
    def full(self) -> bool:
        """Whether it was over all containers."""
        return self.world.scope is None

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

    def view_of(self, hints: Mapping[str, Hint], nominated_before: frozenset[str] = frozenset()) -> View:
        """Return the world of these containers and its plan."""
        world = self._heard(self._observer.observe_some(hints, nominated_before))
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
        """Look at everything, unless a fresh view is given, and act; report is called for each outcome as it comes."""
        hints = self.due.take_hints() if view is None else {}
        with self._kept(hints):
            view = view or self.planner.view(self._nominated)
            self._nominated = view.plan.nominated
            done = self._act(view, hints, report)
            again = [replace(h, receipts=frozenset()) for h in hints.values() if h.receipts]
            self.due.give_back(again, done.plan.at + SECOND_GLANCE)
            return done

    def look(self, hints: Mapping[str, Hint], report: Report | None = None) -> Round:
        """Look at these containers and act, as `round` does for all."""
        with self._kept(hints):
            view = self.planner.view_of(hints, self._nominated)
            # A second look that does not agree takes the first one's word back; only a look at all can give it.
            seen = {*hints, *(t.arn for t in view.world.tasks)}
            self._nominated -= seen - view.plan.nominated
            return self._act(view, hints, report)

    @contextmanager
    def _kept(self, hints: Mapping[str, Hint]) -> Iterator[None]:
        """Lose no hint to a round that fails."""
        try:
            yield
        except BaseException:
            self.due.give_back(hints.values())
            raise

    def _act(self, view: View, hints: Mapping[str, Hint], report: Report | None) -> Round:
        world, plan = view.world, view.plan
        self._keep_first_sights(world)
        outcomes = []
        for outcome in self._applier.apply(plan, world):
            outcomes.append(outcome)
            if report:
                report(outcome)
        if self._keepalives:
            self._keepalives.note(world)
            self._keepalives.send()
        deadlines = self._deadlines(plan, outcomes)
        in_use = _in_use(plan)
        if world.scope is None:
            self.due.replace(deadlines, in_use)
        else:
            self.due.settle(world.scope, deadlines, in_use)
        if not world.complete:
            self.due.give_back(hints.values(), plan.at + self.planner.policy.starting_interval)
            return Round(world, plan, tuple(outcomes))
        return Round(world, plan, tuple(outcomes), tuple(hints.values()))

    def _deadlines(self, plan: Plan, outcomes: list[Outcome]) -> Iterator[tuple[str, Millis]]:
        policy = self.planner.policy
        for action in plan.actions:
            if action.until is not None:
                yield action.container_id, action.until
            soon = policy.look_again_in(action)
            if soon is not None:
                yield action.container_id, plan.at + soon
        for outcome in outcomes:
            if outcome.again_at is not None:
                yield outcome.action.container_id, outcome.again_at
            elif outcome.status is OutcomeStatus.DONE:
                # What comes next, and when, was decided before this was done.
                yield outcome.action.container_id, plan.at + policy.starting_interval

    def beat(self) -> None:
        """Tell the agents that wait for a word that they are not alone; rounds do so, too."""
        if self._keepalives:
            self._keepalives.send()

    def _keep_first_sights(self, world: World) -> None:
        """Note new unreadable rows, and forget those that are mended: the next illness of a row protects anew."""
        unreadable = {row.note for row in world.quarantined}
        for row in world.quarantined:
            if row.note not in world.noted:
                self._notes.note_first_seen(row.note, row.first_seen)
        if world.complete and world.scope is None:
            for key in sorted(world.noted - unreadable):
                self._notes.forget_first_seen(key)


def _in_use(plan: Plan) -> set[str]:
    """Return the containers that nothing is to be done about while somebody is active in them."""
    kept = {a.container_id for a in plan.actions if a.reason is Reason.IN_USE and a.until is not None}
    return kept - {a.container_id for a in plan.actions if a.kind is not ActionKind.KEEP}
