"""Client tokens of RunTask: AmazonECS APIReference, ECS_Idempotency, and RunTask clientToken and ConflictException."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.local.faults import NO_CAPACITY
from tests.local.world import DOWN, REQUEST, UP, World, environment, refused, tags

HOUR = 3600
DAY = 24 * HOUR


def test_the_same_request_is_answered_with_the_same_task(world: World) -> None:
    # ECS_Idempotency, "Idempotency for RunTask".
    first = world.run(clientToken="t", overrides=environment(A="1"))
    assert world.run(clientToken="t", overrides=environment(A="1")) == first
    assert len(world.ecs.snapshot()) == 1


def test_without_a_token_every_request_is_a_new_one(world: World) -> None:
    assert world.start() != world.start()


def test_a_repeat_shows_the_task_as_it_is(world: World) -> None:
    # ECS_Idempotency, "RunTask retry rules and responses": all that the original request would have returned.
    arn = world.started(clientToken="t", tags=tags(Key="value"))
    [task] = world.run(clientToken="t", tags=tags(Key="value"))["tasks"]
    assert (task["taskArn"], task["lastStatus"], task["tags"]) == (arn, "RUNNING", tags(Key="value"))


@pytest.mark.parametrize(
    "changed",
    [
        {"overrides": environment(A="2")},
        {"overrides": environment(B="2", A="1")},
        {"tags": tags(b="1", a="2")},
        {"startedBy": "somebody"},
        {"count": 1},
        {"taskDefinition": "webordinary-edit:1"},
        {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-2"]}}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_request_with_the_token_is_a_conflict(world: World, changed: dict[str, Any]) -> None:
    # ECS_Idempotency: one or more of the parameters are different; ConflictException resourceIds.
    request = {"clientToken": "t", "overrides": environment(A="1", B="2"), "tags": tags(a="2", b="1")}
    arn = world.start(**request)
    with refused("ConflictException") as caught:
        world.run(**{**request, **changed})
    assert caught.value.extra["resourceIds"] == [arn]
    assert caught.value.status == 400
    assert len(world.ecs.snapshot()) == 1


def test_the_order_in_which_parameters_are_written_does_not_matter(world: World) -> None:
    arn = world.start(clientToken="t", startedBy="me")
    reversed_request = dict(reversed({**REQUEST, "clientToken": "t", "startedBy": "me"}.items()))
    assert world.call("RunTask", **reversed_request)["tasks"][0]["taskArn"] == arn


def test_a_token_is_one_of_its_cluster(world: World) -> None:
    # ECS_Idempotency, "Types of idempotency": cluster.
    world.call("CreateCluster", clusterName="other")
    assert world.start(clientToken="t") != world.start(clientToken="t", cluster="other")


def test_a_cluster_has_two_names(world: World) -> None:
    [arn] = world.call("ListClusters")["clusterArns"]
    assert world.start(clientToken="t") == world.start(clientToken="t", cluster=arn)


def test_tokens_are_case_sensitive(world: World) -> None:
    # RunTask clientToken.
    assert world.start(clientToken="t") != world.start(clientToken="T")


def test_a_task_that_stopped_within_the_hour_is_answered_dead(world: World) -> None:
    # ECS_Idempotency: tasks stopped for under an hour only include the ARN, last status and desired status.
    arn = world.started(clientToken="t")
    world.stop(arn)
    assert world.run(clientToken="t")["tasks"][0]["lastStatus"] == "DEACTIVATING"
    world.clock.step(seconds=DOWN)
    assert world.run(clientToken="t") == {
        "tasks": [{"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}],
        "failures": [],
    }


def test_a_token_lives_an_hour_longer_than_its_task(world: World) -> None:
    # ECS_Idempotency: the lifetime of the resource, up to lastStatus STOPPED, plus one hour.
    arn = world.stopped(world.started(clientToken="t"))
    world.clock.step(seconds=HOUR - 0.001)
    assert world.start(clientToken="t") == arn
    with refused("ConflictException"):
        world.run(clientToken="t", startedBy="another")
    world.clock.step(ms=1)
    assert world.start(clientToken="t", startedBy="another") != arn


def test_a_token_lives_24_hours_at_most(world: World) -> None:
    # ECS_Idempotency: 24 hours, or the lifetime of the resource plus one hour, whichever is lower.
    arn = world.start(clientToken="t")
    world.clock.step(seconds=DAY - 0.001)
    assert world.start(clientToken="t") == arn
    world.clock.step(ms=1)
    assert world.start(clientToken="t") != arn


def test_24_hours_count_from_the_call_even_if_the_task_stops_then(world: World) -> None:
    arn = world.start(clientToken="t")
    world.clock.step(seconds=DAY - 60)
    world.stopped(arn)
    assert world.start(clientToken="t") == arn
    world.clock.step(seconds=60)
    assert world.start(clientToken="t") != arn


def test_with_several_tasks_the_last_one_counts(world: World) -> None:
    # ECS_Idempotency: the lifetime of the resource equals that of the last task that transitioned to STOPPED.
    first, second = (task["taskArn"] for task in world.run(clientToken="t", count=2)["tasks"])
    world.clock.step(seconds=UP)
    world.stopped(first)
    world.clock.step(seconds=2 * HOUR)
    assert world.missing(first)
    dead, alive = world.run(clientToken="t", count=2)["tasks"]
    assert dead == {"taskArn": first, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
    assert (alive["taskArn"], alive["lastStatus"]) == (second, "RUNNING")
    world.stopped(second)
    assert {task["lastStatus"] for task in world.run(clientToken="t", count=2)["tasks"]} == {"STOPPED"}
    world.clock.step(seconds=HOUR)
    assert len({task["taskArn"] for task in world.run(clientToken="t", count=2)["tasks"]} | {first, second}) == 4


def test_a_placement_failure_is_repeated(world: World) -> None:
    # ECS_Idempotency, example of a retry with failures; over an hour old, only their number.
    world.ecs.faults.refuse_placement()
    first = world.run(clientToken="t")
    assert first == {"tasks": [], "failures": [{"reason": NO_CAPACITY}]}
    world.clock.step(seconds=HOUR)
    assert world.run(clientToken="t") == first
    world.clock.step(ms=1)
    assert world.run(clientToken="t") == {"tasks": [], "failures": [{}]}
    with refused("ConflictException") as caught:
        world.run(clientToken="t", startedBy="another")
    assert caught.value.extra["resourceIds"] == []
    world.clock.step(seconds=DAY)
    assert world.start(clientToken="t")


def test_a_refused_request_leaves_the_token_free(world: World) -> None:
    # ECS_Idempotency speaks of requests that completed successfully.
    with refused("ClientException"):
        world.run(clientToken="t", taskDefinition="nobody")
    world.ecs.faults.fail("RunTask", "ThrottlingException")
    with refused("ThrottlingException"):
        world.run(clientToken="t", startedBy="first")
    assert world.start(clientToken="t")


def test_a_repeat_after_a_lost_reply_finds_the_task(world: World) -> None:
    # ECS_Idempotency, "Retry recommendations": 5xx, retry with the same token.
    world.ecs.faults.lose_reply("RunTask")
    with refused("ServerException") as caught:
        world.run(clientToken="t")
    assert caught.value.status == 500
    [only] = world.ecs.snapshot()
    assert world.start(clientToken="t") == only["taskArn"]


def test_a_repeat_does_not_ask_the_definition_again(world: World) -> None:
    arn = world.start(clientToken="t")
    world.call("DeregisterTaskDefinition", taskDefinition="webordinary-edit:1")
    assert world.start(clientToken="t") == arn


@pytest.mark.parametrize("token", ["", "a" * 65, "a b", "a\x7f", "é", "a\n"])
def test_a_token_that_cannot_be(world: World, token: str) -> None:
    # RunTask clientToken: up to 64 characters in the range of 33-126.
    with refused("InvalidParameterException", "clientToken"):
        world.run(clientToken=token)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64))
def test_a_token_that_can_be(token: str) -> None:
    world = World()
    assert world.start(clientToken=token) == world.start(clientToken=token)


@pytest.mark.usefixtures("close_race")
def test_sixteen_threads_with_one_token_get_one_task(world: World) -> None:
    together = Barrier(16)

    def start(token: str) -> str:
        together.wait(10)
        return world.start(clientToken=token)

    with ThreadPoolExecutor(16) as pool:
        for token in (f"t{number}" for number in range(40)):
            assert len(set(pool.map(start, [token] * 16))) == 1
    assert len(world.ecs.snapshot()) == 40
    assert world.ecs.calls["RunTask"] == 640


def test_old_tokens_take_no_room(world: World) -> None:
    # A controller may run for months.
    for number in range(10):
        world.stopped(world.start(clientToken=f"t{number}"))
    world.clock.step(seconds=2 * HOUR)
    world.start(clientToken="t0")
    world.clock.step(seconds=23 * HOUR)
    world.start(clientToken="new")
    tokens = world.ecs._clusters.find("webordinary").tokens
    assert list(tokens._calls) == ["t0", "new"]
