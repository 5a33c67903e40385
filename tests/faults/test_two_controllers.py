"""Two controllers at once, without a leader: every order of eight calls each, on three stories."""

import random
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from controller.errors import SessionNotFound
from controller.reconcile.reconciler import Reconciler
from controller.sessions import SessionRegistry
from tests.faults.interleaving import Side, interleave, orders
from tests.faults.stories import TOM, died
from tests.simulation import Simulation

PARTS = 6


def starting(sim: Simulation) -> None:
    """A user has come and nothing runs: both will claim."""
    sim.registry.open("s1", TOM)


def stopping(sim: Simulation) -> None:
    """An idle container; both will drain it, and a user whose touch is older than any of it has left."""
    sim.registry.open("s1", TOM)
    sim.settle()
    sim.clock.step(minutes=22)


def coming_back(sim: Simulation) -> None:
    """`stopping` is written, and the user came back after that: both will look again, and neither may stop."""
    stopping(sim)
    sim.round()
    sim.registry.touch("s1")


STORIES = {"starting": (starting, 1), "stopping": (stopping, 0), "coming_back": (coming_back, 1)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_two_passes(name, part):
    """0 duplicates, 0 wrong stops (checked inside StopTask and after each pass), and the same end as one controller."""
    story, live = STORIES[name]
    count = 0
    for number, order in enumerate(orders()):
        if number % PARTS != part:
            continue
        count += 1
        sim = Simulation()
        story(sim)
        sides = [Side(), Side()]
        controllers = [sim.new_controller(side.wrap) for side in sides]
        interleave([(side, controller.round) for side, controller in zip(sides, controllers, strict=True)], order)
        sim.check()
        assert len(sim.launched) <= 1, (order, "a second task was launched")
        stopped_early = len(sim.stopped)
        sim.settle(most=20)
        if live:
            assert not sim.stopped, (order, "a wrong stop")
        record = sim.tables.get_record(TOM.container_id)
        assert len(sim.live(TOM.container_id)) == live, order
        assert record is not None, order
        assert record.session_count == 1, order
        assert stopped_early <= 1, order
    assert count == 12_870 // PARTS


def shuffled(chance: random.Random, *counts: int) -> list[int]:
    """Return a random order in which side 0 has counts[0] turns, side 1 counts[1], and so on; turns come in bursts."""
    left, order = list(counts), []
    while any(left):
        side = chance.choice([s for s, n in enumerate(left) if n])
        burst = min(chance.randint(1, chance.choice([1, 4, 20])), left[side])
        order += [side] * burst
        left[side] -= burst
    return order


def with_a_user(order: list[int]) -> None:
    """`stopping` is written; two controllers (0, 1) go on with it, and the user's touch (2) comes in between."""
    sim = Simulation()
    stopping(sim)
    sim.round()
    sides = [Side(), Side(), Side()]
    works: list[tuple[Side, Callable[[], object]]] = [(s, sim.new_controller(s.wrap).round) for s in sides[:2]]
    user = SessionRegistry(sides[2].wrap(sim.tables), sim.policy, sim.clock, lambda _: None)
    works.append((sides[2], lambda: user.touch("s1")))
    interleave(works, order)
    sim.settle(most=30)
    assert len(sim.live(TOM.container_id)) == 1, order
    assert len(set(sim.stopped)) <= 1, order


def user_orders() -> Iterator[list[int]]:
    """Yield: one controller up to its nth call, the touch, the other up to its mth, then the first to its end."""
    for n in range(13):
        for m in range(13):
            yield [0] * n + [2, 2] + [1] * m + [0] * 13


def after_a_death(seed: int) -> None:
    """The task of an active user died; two controllers make three rounds each, in a random order of their calls."""
    sim = Simulation()
    died(sim)
    sides = [Side(), Side()]
    controllers = [sim.new_controller(side.wrap) for side in sides]

    def three(controller: Reconciler) -> None:
        for _ in range(3):
            controller.round()

    works = [(s, partial(three, c)) for s, c in zip(sides, controllers, strict=True)]
    interleave(works, shuffled(random.Random(seed), 28, 28))
    sim.settle(most=30)
    assert not sim.stopped, (seed, "what was restarted was stopped")
    assert len(sim.live(TOM.container_id)) == 1, seed
    assert len(sim.launched) == 2, seed


@pytest.mark.timeout(300)
def test_a_user_who_comes_back_at_any_moment_of_a_stop():
    for order in user_orders():
        with_a_user(order)
    for seed in range(600):
        with_a_user(shuffled(random.Random(seed), 10, 10, 2))


@pytest.mark.timeout(300)
def test_a_death_that_two_controllers_notice():
    for seed in range(600):
        after_a_death(seed)


def test_a_session_that_is_gone_is_not_touched():
    sim = Simulation()
    starting(sim)
    sim.registry.release("s1")
    with pytest.raises(SessionNotFound):
        sim.registry.touch("s1")
