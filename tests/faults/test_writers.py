"""Writers between any two calls of the controller: ours, doubled and late ones, and the original system's.

10,000 random interleavings, each from a seed that a failure names: `run(seed)` plays it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from controller.core import ledger
from controller.core.identity import ContainerIdentity
from controller.core.ledger import RecordWrite
from controller.core.model import MINUTE, ActionKind, ContainerRecord
from controller.core.plan import compute_plan
from controller.core.usage import session_use
from controller.errors import SessionNotFound
from tests.faults.interception import Intercepted
from tests.simulation import Broken, Simulation

CASES = 10_000
PARTS = 10
USERS = [ContainerIdentity("acme", "blog", "tom"), ContainerIdentity("acme", "shop", "eva")]


class Writers:
    """Session writers of both kinds that act at random, and remember who was active when."""

    def __init__(self, sim: Simulation, chance: random.Random) -> None:
        self.sim = sim
        self.chance = chance
        self.with_originals = chance.random() < 0.5
        self.active_at: dict[str, int] = {}
        self.originals: dict[str, str] = {}
        """Where an original writer stands with a session: `put`, `open`, `lowered`; it may die anywhere."""

    def maybe_act(self) -> None:
        """Do nothing mostly, and sometimes one write."""
        if self.chance.random() < 0.12:
            # The fence is a time: two writes within one millisecond look like one (docs/decisions/005).
            self.sim.clock.step(ms=1)
            acts = [
                self.open,
                self.open_twice,
                self.touch,
                self.touch,
                self.release,
                self.original,
                self.hold,
                self.drift,
            ]
            self.chance.choice(acts if self.with_originals else [a for a in acts if a != self.original])()

    def drift(self) -> None:
        """Somebody edits a count by hand."""
        user = self.chance.choice(USERS)
        if self.chance.random() < 0.3 and user.container_id in self.sim.tables.rows["records"]:
            self.sim.tables.add_raw_count(user.container_id, self.chance.choice([-1, 1]))

    def hold(self) -> None:
        """An operator holds a container for a while, or lets it go."""
        record = self.sim.tables.get_record(self.chance.choice(USERS).container_id)
        if record is None:
            return
        if record.hold:
            self.sim.tables.write(ledger.lift_hold(record))
        else:
            self.sim.tables.write(ledger.set_hold(record, "ops", "looking", self.sim.clock() + 10 * MINUTE))

    def open(self) -> None:
        user = self.chance.choice(USERS)
        if self.sim.registry.open(f"{user.user_id}-{self.chance.randrange(2)}", user):
            self._was_active(user.container_id)

    def open_twice(self) -> None:
        """The reply was lost and the caller sends it again, perhaps much later."""
        user = self.chance.choice(USERS)
        for _ in range(2):
            if self.sim.registry.open(f"{user.user_id}-0", user):
                self._was_active(user.container_id)

    def touch(self) -> None:
        user = self.chance.choice(USERS)
        try:
            self.sim.registry.touch(f"{user.user_id}-{self.chance.randrange(2)}")
        except SessionNotFound:
            return
        self._was_active(user.container_id)

    def release(self) -> None:
        user = self.chance.choice(USERS)
        for _ in range(self.chance.choice([1, 2])):
            if self.sim.registry.release(f"{user.user_id}-{self.chance.randrange(2)}"):
                self._was_active(user.container_id)

    def original(self) -> None:
        """Half of an original assign or release: the other half comes later, or never."""
        user = self.chance.choice(USERS)
        session_id = f"original-{user.user_id}"
        self.sim.written_by_originals.add(user.container_id)
        match self.originals.get(session_id):
            case None:
                self.sim.tables.put_original_session(session_id, user.container_id, self.sim.clock())
                self.originals[session_id] = "put"
            case "put":
                self.sim.tables.add_raw_count(user.container_id, 1)
                self.originals[session_id] = "open"
            case "open":
                self.sim.tables.add_raw_count(user.container_id, -1)
                self.originals[session_id] = "lowered"
            case _:
                self.sim.tables.delete_original_session(session_id)
                del self.originals[session_id]

    def _was_active(self, container_id: str) -> None:
        self.active_at[container_id] = self.sim.clock()

    # Around the controller's calls

    def wrap(self, port: Any) -> Intercepted:
        """Return the port with writers acting before and after each call."""
        return Intercepted(port, self._around)

    def _around(self, _: str, call: Callable[[], Any]) -> Any:
        self.maybe_act()
        answer = call()
        self.maybe_act()
        return answer


def watch_confirmations(sim: Simulation, writers: Writers) -> None:
    """At the write from which nobody goes back, no activity may lie within the idle timeout."""
    write = sim.tables.write

    def watched(request: RecordWrite) -> ContainerRecord:
        record = write(request)
        if ("drain", "confirmedAt") in request.set:
            since = sim.clock() - writers.active_at.get(request.container_id, 0)
            if since < sim.policy.idle_timeout:
                raise Broken(f"a stop was confirmed {since} ms after an activity on {request.container_id}")
        return record

    sim.tables.write = watched  # type: ignore[method-assign, assignment]


def run(seed: int) -> Simulation:
    """Play one interleaving to its end and check it."""
    chance = random.Random(seed)
    sim = Simulation()
    writers = Writers(sim, chance)
    watch_confirmations(sim, writers)
    sim.controller = sim.new_controller(writers.wrap)
    for _ in range(chance.randint(3, 9)):
        sim.round()
        sim.clock.step(seconds=chance.choice([1, 3, 10, 60, 600, 1300]))
    sim.controller = sim.new_controller()
    sim.clock.step(minutes=11)
    every_active_session_is_served(sim)
    sim.settle(most=40)
    counts_agree(sim)
    return sim


def every_active_session_is_served(sim: Simulation) -> None:
    """Within one round: a ready container, a launch in flight, or a stated reason why not yet."""
    sim.round()
    view = sim.controller.planner.view()
    plan = compute_plan(view.world, sim.policy, sim.clock())
    active = [
        s for s in view.world.sessions if session_use(s, sim.policy, sim.policy.idle_timeout, {}, sim.clock()).active
    ]
    for session in active:
        reasons = [a for a in plan.actions if a.container_id == session.container_id]
        assert reasons, session
        record = sim.tables.get_record(session.container_id)
        served = record is not None and record.task_arn in {t["taskArn"] for t in sim.live(session.container_id)}
        waiting = any(a.kind is not ActionKind.KEEP for a in reasons)
        assert served or waiting, (session, reasons)


def counts_agree(sim: Simulation) -> None:
    for user in USERS:
        record = sim.tables.get_record(user.container_id)
        assert (record.session_count or 0 if record else 0) == len(sim.sessions(user.container_id))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_interleavings_of_writers_and_the_controller(part):
    for seed in range(part, CASES, PARTS):
        try:
            run(seed)
        except (AssertionError, Broken) as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_the_interleavings_reach_what_they_are_about():
    """Launches, stops, repairs and writes that went back must occur among a few seeds, or the rest shows nothing."""
    stops = launches = repairs = 0
    for seed in range(150):
        sim = run(seed)
        stops += len(sim.stopped)
        launches += len(sim.launched)
        repairs += sum(1 for w in sim.tables.log if w.operation == "write")
    assert stops > 20
    assert launches > 100
    assert repairs > 300
