"""Trouble that a test can order, and what it does and does not do."""

from __future__ import annotations

import pytest

from controller.local.ecs import EcsError
from controller.local.faults import NO_CAPACITY
from tests.local.world import CLUSTER, World, refused


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("AccessDeniedException", 400),
        ("ServerException", 500),
        ("ServiceUnavailable", 503),
    ],
)
def test_the_next_calls_of_an_operation_fail_without_effect(world: World, code: str, status: int) -> None:
    # AmazonECS APIReference, Common Errors.
    world.ecs.faults.fail("RunTask", code, times=2)
    for _ in range(2):
        with refused(code) as caught:
            world.run()
        assert caught.value.status == status
    assert world.ecs.snapshot() == []
    assert world.start()
    assert [call.error for call in world.ecs.log if call.operation == "RunTask"] == [code, code, ""]


def test_other_operations_are_spared(world: World) -> None:
    world.ecs.faults.fail("ListTasks")
    world.start()
    with refused("ServerException"):
        world.listed()


def test_a_lost_reply_comes_after_the_effect(world: World) -> None:
    arn = world.started()
    world.ecs.faults.lose_reply("StopTask")
    with refused("ServerException"):
        world.stop(arn)
    assert world.task(arn)["desiredStatus"] == "STOPPED"


def test_refused_placements_count_tasks_not_calls(world: World) -> None:
    # APIReference RunTask: tasks and failures of one answer.
    world.ecs.faults.refuse_placement("RESOURCE:MEMORY", times=2, detail="not enough")
    answer = world.run(count=3)
    assert len(answer["tasks"]) == 1
    assert answer["failures"] == [{"reason": "RESOURCE:MEMORY", "detail": "not enough"}] * 2
    assert len(world.run(count=3)["tasks"]) == 3


def test_a_refused_task_can_show_up_all_the_same(world: World) -> None:
    # apache/airflow pull request 16150: failures are no proof that nothing runs.
    world.ecs.faults.refuse_placement(appears_after_ms=40_000)
    assert world.run(startedBy="me") == {"tasks": [], "failures": [{"reason": NO_CAPACITY}]}
    [hidden] = [task["taskArn"] for task in world.ecs.snapshot()]
    world.clock.step(seconds=39.999)
    assert world.listed(startedBy="me") == []
    assert world.missing(hidden)
    with refused("InvalidParameterException", "The referenced task was not found."):
        world.stop(hidden)
    world.clock.step(ms=1)
    assert world.listed(startedBy="me") == [hidden]
    assert world.task(hidden)["lastStatus"] == "RUNNING"


def test_clear_makes_all_well(world: World) -> None:
    world.ecs.faults.fail("RunTask")
    world.ecs.faults.lose_reply("RunTask")
    world.ecs.faults.refuse_placement()
    world.ecs.faults.clear()
    assert world.start()


def test_a_fault_for_an_unknown_operation_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match="Runtask"):
        world.ecs.faults.fail("Runtask")
    with pytest.raises(ValueError, match="StopTasks"):
        world.ecs.faults.lose_reply("StopTasks")


def test_quotas_have_their_place() -> None:
    # APIReference "Request throttling": ThrottlingException.
    admitted: list[tuple[str, int]] = []

    def admit(operation: str, now: int) -> None:
        if len(admitted) >= 4:
            raise EcsError("ThrottlingException", "Rate exceeded")
        admitted.append((operation, now))

    world = World(admit=admit)
    world.start()
    assert world.listed()
    with refused("ThrottlingException", "Rate exceeded"):
        world.listed()
    assert admitted[-1] == ("ListTasks", world.clock.now())


def test_ids_can_be_given() -> None:
    ids = iter(["a" * 32, "b" * 32])
    world = World(ids=lambda: next(ids))
    assert [world.start(), world.start()] == [
        f"arn:aws:ecs:us-east-1:123456789012:task/{CLUSTER}/{'a' * 32}",
        f"arn:aws:ecs:us-east-1:123456789012:task/{CLUSTER}/{'b' * 32}",
    ]


def test_two_worlds_are_the_same_world() -> None:
    def story() -> list[dict[str, object]]:
        world = World()
        world.stop(world.started())
        world.start()
        return world.ecs.snapshot()

    assert story() == story()
