"""What is remembered of the last looks: the same figures, whether everything or a few containers were looked at."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.core.model import ContainerStatus, Others, Quality, Sight, World
from controller.reconcile.fleet import Fleet
from tests.builders import NOW, drain, record, session, stopped, task

IDS = ("a-b-c", "a-b-d", "a-b-e", "a-b-f")


def part(container_id: str, state: tuple[int, int, str]) -> World:
    """Return a world of one container: so many tasks and sessions, and what its record says."""
    tasks, sessions, status = state
    first = 10 * IDS.index(container_id)
    stop = drain(stopping_at=NOW + first) if status == "stopping" else None
    return World(
        sessions=tuple(session(f"{container_id}/{n}", container_id) for n in range(sessions)),
        records=(record(status, container_id, drain=stop),),
        tasks=(*(task(first + n, container_id) for n in range(tasks)), stopped(first + 9, container=container_id)),
        scope=frozenset({container_id}),
    )


states = st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["running", "draining", "stopping"]))


def whole(parts: dict[str, World]) -> World:
    return World(
        sessions=tuple(s for w in parts.values() for s in w.sessions),
        records=tuple(r for w in parts.values() for r in w.records),
        tasks=tuple(t for w in parts.values() for t in w.tasks),
    )


@given(st.lists(st.tuples(st.sampled_from(IDS), states), max_size=12), st.sets(st.sampled_from(IDS)))
def test_many_small_looks_leave_what_one_whole_look_leaves(looks, asked):
    bit_by_bit, parts = Fleet(), {}
    for container_id, state in looks:
        parts[container_id] = part(container_id, state)
        bit_by_bit.note(parts[container_id])
    at_once = Fleet()
    at_once.note(whole(parts))
    chosen = [w for i, w in parts.items() if i in asked]
    assert bit_by_bit.arns(asked) == at_once.arns(asked) == {t.arn for w in chosen for t in w.tasks}
    ours, theirs = bit_by_bit.others(asked, 0), at_once.others(asked, 0)
    rest = [w for i, w in parts.items() if i not in asked]
    assert sorted(ours.stops) == sorted(theirs.stops)
    assert (
        replace(ours, stops=())
        == replace(theirs, stops=())
        == Others(
            live=sum(t.live for w in rest for t in w.tasks),
            draining=sum(r.status is ContainerStatus.DRAINING for w in rest for r in w.records),
            sessions=sum(len(w.sessions) for w in rest),
        )
    )


def test_old_stops_are_dropped_and_a_look_that_failed_teaches_nothing():
    fleet = Fleet()
    fleet.note(part("a-b-c", (1, 1, "stopping")))
    assert len(fleet.others((), 0).stops) == 1
    blind = replace(part("a-b-c", (0, 0, "running")), tasks_sight=Sight(Quality.INCOMPLETE, "page 2 failed"))
    fleet.note(blind)
    assert fleet.others((), 0).live == 1
    assert fleet.others((), NOW + 5_000).stops == ()
