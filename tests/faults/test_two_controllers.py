"""Two controllers at once, without a leader: every order of eight calls each, on three stories."""

import pytest

from controller.errors import SessionNotFound
from tests.faults.interleaving import Side, interleave, orders
from tests.faults.stories import TOM
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


def test_a_session_that_is_gone_is_not_touched():
    sim = Simulation()
    starting(sim)
    sim.registry.release("s1")
    with pytest.raises(SessionNotFound):
        sim.registry.touch("s1")
