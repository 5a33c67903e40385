"""ListTasks and DescribeTasks: their AmazonECS APIReference pages, and what the field says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.local.world import CLUSTER, DEFINITION, UP, World, refused, tags


def test_the_default_is_what_is_desired_to_run(world: World) -> None:
    # ListTasks desiredStatus: the default is RUNNING; a task that is being stopped is no longer desired to run.
    young, old = world.start(), world.start()
    world.stop(old)
    assert world.listed() == world.listed(desiredStatus="RUNNING") == [young]
    assert world.listed(desiredStatus="STOPPED") == [old]


def test_no_task_is_desired_to_be_pending(world: World) -> None:
    # ListTasks desiredStatus: PENDING doesn't return any results.
    world.start()
    world.clock.step(seconds=15)
    assert world.listed(desiredStatus="PENDING") == []


@pytest.mark.parametrize(
    "params",
    [
        {"desiredStatus": "RUNNING"},
        {"family": "webordinary-edit"},
        {"launchType": "FARGATE"},
        {"serviceName": "s"},
        {"containerInstance": "i"},
        {"daemonName": "d"},
    ],
    ids=lambda params: next(iter(params)),
)
def test_started_by_is_the_only_filter(world: World, params: dict[str, Any]) -> None:
    # ListTasks startedBy; the message is that of aws/aws-sdk-go-v2 issue 1893.
    with refused("InvalidParameterException", "cannot specify startedBy with other arguments"):
        world.call("ListTasks", cluster=CLUSTER, startedBy="me", **params)


def test_started_by_finds_live_tasks_of_all_families(world: World) -> None:
    world.call("RegisterTaskDefinition", **{**DEFINITION, "family": "other"})
    mine = [world.start(startedBy="me"), world.start(startedBy="me", taskDefinition="other")]
    gone = world.start(startedBy="me")
    world.start(startedBy="you")
    world.start()
    world.stop(gone)
    assert world.listed(startedBy="me") == mine


def test_family_and_launch_type_can_be_combined(world: World) -> None:
    world.call("RegisterTaskDefinition", **{**DEFINITION, "family": "other"})
    other = world.start(taskDefinition="other")
    world.start()
    assert world.listed(family="other", launchType="FARGATE", desiredStatus="RUNNING") == [other]
    assert world.listed(family="other", launchType="EC2") == []
    assert world.listed(family="othe") == []


def test_clusters_are_apart(world: World) -> None:
    world.call("CreateCluster", clusterName="webordinary2")
    arn = world.start(cluster="webordinary2")
    world.start()
    assert world.call("ListTasks", cluster="webordinary2")["taskArns"] == [arn]
    assert world.missing(arn)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"desiredStatus": "running"}, "InvalidParameterException"),
        ({"launchType": "SPOT"}, "InvalidParameterException"),
        ({"maxResults": 0}, "InvalidParameterException"),
        ({"maxResults": 101}, "InvalidParameterException"),
        ({"nextToken": "made up"}, "InvalidParameterException"),
        ({"nextToken": "bWFkZSB1cA=="}, "InvalidParameterException"),
        ({"serviceName": "s"}, "ServiceNotFoundException"),
        ({"containerInstance": "i"}, "InvalidParameterException"),
        ({"daemonName": "d"}, "InvalidParameterException"),
        ({"cluster": "nobody"}, "ClusterNotFoundException"),
        ({"tags": []}, "InvalidParameterException"),
    ],
)
def test_a_list_that_is_refused(world: World, params: dict[str, Any], code: str) -> None:
    with refused(code):
        world.call("ListTasks", **{"cluster": CLUSTER, **params})


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)])
def test_a_page_has_100_tasks_at_most(world: World, count: int, pages: int) -> None:
    # ListTasks maxResults.
    expected = [world.start() for _ in range(count)]
    world.ecs.calls.clear()
    assert world.listed() == expected
    assert world.ecs.calls["ListTasks"] == pages


@given(count=st.integers(0, 30), size=st.integers(1, 12), overlapping=st.booleans())
def test_pages_together_are_the_list(count: int, size: int, overlapping: bool) -> None:
    # Overlapping pages: turbot/steampipe-plugin-aws issue 725, convox/rack pull request 3295.
    world = World()
    expected = [world.start() for _ in range(count)]
    world.ecs.quirks.overlapping_pages = overlapping
    listed = world.listed(maxResults=size)
    assert list(dict.fromkeys(listed)) == expected
    if not overlapping or size == 1:
        assert len(listed) == count
    elif count > size:
        assert len(listed) > count


def test_a_token_is_for_the_list_that_it_came_from(world: World) -> None:
    for _ in range(3):
        world.start()
    token = world.call("ListTasks", cluster=CLUSTER, maxResults=1)["nextToken"]
    with refused("InvalidParameterException", "Invalid token"):
        world.call("ListTasks", cluster=CLUSTER, nextToken=token, desiredStatus="STOPPED")


def test_a_list_goes_on_where_it_was_though_tasks_stop(world: World) -> None:
    arns = [world.start() for _ in range(6)]
    page = world.call("ListTasks", cluster=CLUSTER, maxResults=2)
    for arn in arns[:3]:
        world.stop(arn)
    world.start()
    rest = world.call("ListTasks", cluster=CLUSTER, nextToken=page["nextToken"])
    assert rest["taskArns"][:3] == arns[3:]


def test_a_list_can_lag(world: World) -> None:
    # APIReference RunTask: the API follows an eventual consistency model.
    old = world.started()
    world.ecs.quirks.list_lag_ms = 5000
    new = world.start()
    world.stop(old)
    assert world.listed() == [old]
    world.clock.step(seconds=4.999)
    assert (world.listed(), world.listed(desiredStatus="STOPPED")) == ([old], [])
    world.clock.step(ms=1)
    assert (world.listed(), world.listed(desiredStatus="STOPPED")) == ([new], [old])


def test_a_new_task_can_be_missing(world: World) -> None:
    # dask/dask-cloudprovider issue 483: MISSING right after RunTask.
    world.ecs.quirks.describe_lag_ms = 1000
    arn = world.start()
    assert world.missing(arn)
    world.clock.step(seconds=1)
    assert world.task(arn)["lastStatus"] == "PROVISIONING"


def test_a_description_can_lag(world: World) -> None:
    arn = world.start(tags=tags(Key="value"))
    world.clock.step(seconds=UP)
    world.ecs.quirks.describe_lag_ms = 2000
    world.stop(arn)
    late = world.task(arn)
    assert (late["lastStatus"], late["desiredStatus"], late["tags"]) == ("ACTIVATING", "RUNNING", tags(Key="value"))
    assert "stopCode" not in late
    world.clock.step(seconds=2)
    assert world.task(arn)["desiredStatus"] == "STOPPED"


def test_missing_tasks_are_failures_and_the_others_are_there(world: World) -> None:
    # Developer Guide "API failure reasons": DescribeTasks, MISSING.
    arn, lost = world.start(), "0" * 32
    answer = world.call("DescribeTasks", cluster=CLUSTER, tasks=[lost, arn, arn.rpartition("/")[2], lost])
    assert [task["taskArn"] for task in answer["tasks"]] == [arn]
    assert answer["failures"] == [
        {"arn": f"arn:aws:ecs:us-east-1:123456789012:task/{CLUSTER}/{lost}", "reason": "MISSING"}
    ]


def test_100_tasks_can_be_described_and_not_101(world: World) -> None:
    # DescribeTasks tasks: a list of up to 100 task IDs or full ARN entries.
    arns = [world.start() for _ in range(101)]
    assert len(world.call("DescribeTasks", cluster=CLUSTER, tasks=arns[:100])["tasks"]) == 100
    with refused("InvalidParameterException", "100"):
        world.call("DescribeTasks", cluster=CLUSTER, tasks=arns)


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"tasks": []}, "InvalidParameterException", "Tasks cannot be empty."),
        ({"tasks": ["short"]}, "InvalidParameterException", "taskId length should be one of [32,36]"),
        ({"tasks": [1]}, "SerializationException", "tasks"),
        ({"tasks": "0" * 32}, "SerializationException", "tasks"),
        ({"tasks": ["0" * 32], "include": ["STATUS"]}, "InvalidParameterException", "include"),
        ({"tasks": ["0" * 32], "cluster": "nobody"}, "ClusterNotFoundException", ""),
    ],
)
def test_a_description_that_is_refused(world: World, params: dict[str, Any], code: str, text: str) -> None:
    with refused(code, text):
        world.call("DescribeTasks", **{"cluster": CLUSTER, **params})


def test_tags_are_shown_only_if_asked_for(world: World) -> None:
    # DescribeTasks include.
    arn = world.start(tags=tags(Key="value"))
    assert world.call("DescribeTasks", cluster=CLUSTER, tasks=[arn])["tasks"][0]["tags"] == []
    assert world.task(arn)["tags"] == tags(Key="value")


@pytest.mark.parametrize("operation", ["ListTasks", "DescribeTasks", "DescribeClusters"])
def test_calls_are_counted_and_logged(world: World, operation: str) -> None:
    answer: Callable[[], object] = {
        "ListTasks": lambda: world.listed(),
        "DescribeTasks": lambda: world.missing("arn:none"),
        "DescribeClusters": lambda: world.call("DescribeClusters"),
    }[operation]
    world.ecs.calls.clear()
    world.clock.step(seconds=7)
    answer()
    assert dict(world.ecs.calls) == {operation: 1}
    last = world.ecs.log[-1]
    assert (last.at, last.operation, last.error) == (world.clock.now(), operation, "")
