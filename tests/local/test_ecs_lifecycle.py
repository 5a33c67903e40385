"""States of a task on the clock: Amazon ECS Developer Guide, "Task lifecycle"; AmazonECS APIReference, Task."""

from __future__ import annotations

import pytest

from controller.local.lifecycle import Timings
from tests.local.world import CLUSTER, CONTAINER, DEFINITION, DOWN, UP, World, address, environment, refused

# Developer Guide "Task lifecycle": second after RunTask -> lastStatus, with the timings of world.py.
STARTING = [
    (0, "PROVISIONING"),
    (9.999, "PROVISIONING"),
    (10, "PENDING"),
    (29.999, "PENDING"),
    (30, "ACTIVATING"),
    (34.999, "ACTIVATING"),
    (35, "RUNNING"),
    (86_400, "RUNNING"),
]
# The same after StopTask on a RUNNING task.
STOPPING = [
    (0, "DEACTIVATING"),
    (1.999, "DEACTIVATING"),
    (2, "STOPPING"),
    (4.999, "STOPPING"),
    (5, "DEPROVISIONING"),
    (14.999, "DEPROVISIONING"),
    (15, "STOPPED"),
    (3614.999, "STOPPED"),
]


@pytest.mark.parametrize(("second", "status"), STARTING)
def test_a_task_starts_on_the_clock(world: World, second: float, status: str) -> None:
    arn = world.start()
    world.clock.step(seconds=second)
    assert world.task(arn)["lastStatus"] == status
    assert world.task(arn)["desiredStatus"] == "RUNNING"


@pytest.mark.parametrize(("second", "status"), STOPPING)
def test_a_task_stops_on_the_clock(world: World, second: float, status: str) -> None:
    arn = world.started()
    world.stop(arn)
    world.clock.step(seconds=second)
    assert world.task(arn)["lastStatus"] == status
    assert world.task(arn)["desiredStatus"] == "STOPPED"


def test_looking_changes_nothing(world: World) -> None:
    # APIReference DescribeTasks is a read.
    looked_at, left_alone = world.start(), world.start()
    for _ in range(60):
        world.task(looked_at)
        world.clock.step(seconds=1)
    ignored = {"taskArn", "attachments", "containers"}
    one, other = (
        {name: value for name, value in world.task(arn).items() if name not in ignored}
        for arn in (looked_at, left_alone)
    )
    assert one == other


@pytest.mark.parametrize("second", [0, 5, 10, 29])
def test_a_task_that_has_no_container_yet_has_none_to_stop(world: World, second: float) -> None:
    # Developer Guide "Task lifecycle": DEACTIVATING and STOPPING are for containers that run.
    arn = world.start()
    world.clock.step(seconds=second)
    assert world.stop(arn)["lastStatus"] == "DEPROVISIONING"
    world.clock.step(seconds=10)
    task = world.task(arn)
    assert task["lastStatus"] == "STOPPED"
    assert "exitCode" not in task["containers"][0]
    assert "startedAt" not in task
    assert address(task) is None


def test_version_counts_the_changes(world: World) -> None:
    # APIReference Task, version.
    arn = world.start()
    versions = []
    for second in range(UP + DOWN + 2):
        if second == UP + 1:
            world.stop(arn)
        versions.append((world.task(arn)["version"], world.task(arn)["lastStatus"]))
        world.clock.step(seconds=1)
    assert list(dict.fromkeys(versions)) == [
        (1, "PROVISIONING"),
        (2, "PENDING"),
        (3, "ACTIVATING"),
        (4, "RUNNING"),
        (5, "DEACTIVATING"),
        (6, "STOPPING"),
        (7, "DEPROVISIONING"),
        (8, "STOPPED"),
    ]


def test_instants_appear_when_they_are_past_and_are_epoch_seconds(world: World) -> None:
    # APIReference Task: createdAt, pullStartedAt, startedAt, stoppingAt, executionStoppedAt, stoppedAt.
    born = world.clock.now() / 1000
    arn = world.started()
    running = world.task(arn)
    assert {name: value - born for name, value in running.items() if name.endswith("At")} == {
        "createdAt": 0,
        "connectivityAt": 10,
        "pullStartedAt": 10,
        "pullStoppedAt": 30,
        "startedAt": 35,
    }
    world.stop(arn)
    assert world.task(arn)["stoppingAt"] == born + UP
    assert "stoppedAt" not in world.task(arn)
    world.clock.step(seconds=DOWN)
    assert world.task(arn)["executionStoppedAt"] == born + UP + 5
    assert world.task(arn)["stoppedAt"] == born + UP + DOWN


def test_the_desired_status_and_the_reason_are_there_at_once(world: World) -> None:
    # APIReference StopTask: reason appears in DescribeTasks.
    arn = world.started()
    task = world.stop(arn, reason="idle for 23 min")
    assert (task["desiredStatus"], task["stopCode"], task["stoppedReason"]) == (
        "STOPPED",
        "UserInitiated",
        "idle for 23 min",
    )


def test_stopping_again_changes_nothing(world: World) -> None:
    arn = world.started()
    world.stop(arn, reason="first")
    world.clock.step(seconds=4)
    before = world.task(arn)
    assert world.stop(arn, reason="second")["stoppedReason"] == "first"
    assert world.task(arn) == before
    world.clock.step(hours=0.5)
    assert world.stop(arn)["lastStatus"] == "STOPPED"


def test_an_unknown_task_cannot_be_stopped(world: World) -> None:
    # The message that apache/airflow's ECS tests and others match on.
    for reference in ("0" * 32, f"arn:aws:ecs:us-east-1:123456789012:task/{CLUSTER}/{'0' * 32}"):
        with refused("InvalidParameterException", "The referenced task was not found."):
            world.stop(reference)


def test_a_stopped_task_is_forgotten_after_an_hour(world: World) -> None:
    # APIReference DescribeTasks: stopped tasks appear for at least one hour.
    arn = world.stopped(world.started())
    world.clock.step(seconds=3599.999)
    assert world.task(arn)["lastStatus"] == "STOPPED"
    world.clock.step(ms=1)
    assert world.missing(arn)
    assert world.listed(desiredStatus="STOPPED") == []
    with refused("InvalidParameterException", "The referenced task was not found."):
        world.stop(arn)


def test_a_container_that_exits_ends_its_task(world: World) -> None:
    # APIReference Task, stopCode EssentialContainerExited; Container, exitCode.
    arn = world.started()
    assert world.ecs.exit_task(arn, 3)
    task = world.task(arn)
    assert (task["lastStatus"], task["desiredStatus"], task["stopCode"]) == (
        "DEPROVISIONING",
        "STOPPED",
        "EssentialContainerExited",
    )
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert not world.ecs.exit_task(arn, 4)
    world.clock.step(seconds=10)
    assert world.task(arn)["containers"][0]["exitCode"] == 3


def test_nothing_starts_a_task_again(world: World) -> None:
    # Developer Guide "Standalone tasks": ECS does not replace them.
    world.ecs.exit_task(world.started(), 1)
    world.clock.step(hours=1)
    assert world.listed() == []


def test_a_container_that_exits_during_the_stop_shortens_it(world: World) -> None:
    arn = world.started()
    world.stop(arn, reason="ours")
    world.clock.step(seconds=3)
    world.ecs.exit_task(arn, 75)
    task = world.task(arn)
    assert (task["lastStatus"], task["stopCode"], task["stoppedReason"]) == ("DEPROVISIONING", "UserInitiated", "ours")
    assert task["containers"][0]["exitCode"] == 75


def test_the_exit_code_of_the_stop_signal_can_be_told(world: World) -> None:
    arn = world.started()
    world.ecs.exit_on_stop(arn, 75)
    world.stopped(arn)
    assert world.task(arn)["containers"][0]["exitCode"] == 75


def test_an_image_that_cannot_be_pulled(world: World) -> None:
    # Developer Guide "Stopped tasks error messages": CannotPullContainerError, stopCode TaskFailedToStart.
    arn = world.start()
    world.clock.step(seconds=15)
    assert world.ecs.fail_to_start(arn, "CannotPullContainerError: pull access denied")
    task = world.task(arn)
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["containers"][0]["reason"] == task["stoppedReason"] == "CannotPullContainerError: pull access denied"
    assert "exitCode" not in task["containers"][0]


@pytest.mark.parametrize("code", ["UserInitiated", "SpotInterruption", "TerminationNotice"])
def test_somebody_else_stops_a_task(world: World, code: str) -> None:
    # APIReference Task, stopCode.
    arn = world.started()
    world.ecs.stop_by_hand(arn, "because", code)
    task = world.task(arn)
    assert (task["lastStatus"], task["stopCode"], task["stoppedReason"]) == ("DEACTIVATING", code, "because")
    assert world.ecs.calls["StopTask"] == 0


def test_who_names_an_unknown_task_is_told(world: World) -> None:
    with pytest.raises(LookupError):
        world.ecs.exit_task("0" * 32, 0)


def test_what_a_task_shows_of_its_request(world: World) -> None:
    # APIReference Task.
    task = world.task(world.started(startedBy="editctl/default", overrides=environment(SESSION="s1")))
    assert {name: task[name] for name in ("cpu", "memory", "launchType", "platformVersion", "platformFamily")} == {
        "cpu": "1024",
        "memory": "2048",
        "launchType": "FARGATE",
        "platformVersion": "1.4.0",
        "platformFamily": "Linux",
    }
    assert task["group"] == "family:webordinary-edit"
    assert task["startedBy"] == "editctl/default"
    assert task["taskDefinitionArn"].endswith(":task-definition/webordinary-edit:1")
    assert task["connectivity"] == "CONNECTED"
    assert task["overrides"]["containerOverrides"] == environment(SESSION="s1")["containerOverrides"]
    assert task["containers"][0]["name"] == CONTAINER
    assert len(task["taskArn"].rpartition("/")[2]) == 32


def test_the_address_appears_with_the_network_and_stays(world: World) -> None:
    # APIReference Attachment: details, and a status from PRECREATED to DELETED.
    arn = world.start()
    seen = []
    for _ in range(UP + 1):
        task = world.task(arn)
        seen.append((task["lastStatus"], task["attachments"][0]["status"], address(task)))
        world.clock.step(seconds=1)
    world.stopped(arn)
    task = world.task(arn)
    seen.append((task["lastStatus"], task["attachments"][0]["status"], address(task)))
    assert list(dict.fromkeys(seen)) == [
        ("PROVISIONING", "PRECREATED", None),
        ("PENDING", "ATTACHING", None),
        ("ACTIVATING", "ATTACHED", "127.1.0.1"),
        ("RUNNING", "ATTACHED", "127.1.0.1"),
        ("STOPPED", "DELETED", "127.1.0.1"),
    ]
    assert task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] == "127.1.0.1"


def test_an_address_is_free_again_when_its_task_is_stopped_and_not_before(world: World) -> None:
    # Amazon EC2 API Reference DeleteNetworkInterface: its private addresses can be used by another interface.
    first = world.started()
    world.stop(first)
    world.clock.step(seconds=DOWN - 0.001)
    second = world.start()
    world.clock.step(ms=1)
    third = world.start()
    world.clock.step(seconds=UP)
    assert [address(world.task(arn)) for arn in (first, second, third)] == ["127.1.0.1", "127.1.0.2", "127.1.0.1"]


def test_a_network_that_is_full_has_no_room(world: World) -> None:
    # Developer Guide "API failure reasons": RESOURCE:ENI.
    small = World(network="127.1.0.0/30")
    answer = small.run(count=4)
    assert len(answer["tasks"]) == 2
    assert answer["failures"] == [{"reason": "RESOURCE:ENI"}] * 2


def test_a_fresh_task_can_be_without_parts(world: World) -> None:
    # apache/airflow issue 51429: RunTask answered a task without containers.
    world.ecs.quirks.bare_when_fresh = True
    task = world.run()["tasks"][0]
    assert (task["containers"], task["attachments"]) == ([], [])
    world.clock.step(seconds=10)
    assert world.task(task["taskArn"])["containers"]


def test_the_fast_timings_are_for_people_who_watch() -> None:
    fast = World(timings=Timings.fast())
    arn = fast.start()
    fast.clock.step(seconds=0.5)
    assert fast.task(arn)["lastStatus"] == "RUNNING"
    fast.stop(arn)
    fast.clock.step(seconds=0.5)
    assert fast.task(arn)["lastStatus"] == "STOPPED"


def test_answers_are_copies(world: World) -> None:
    request = environment(A="1")
    arn = world.start(overrides=request)
    request["containerOverrides"][0]["environment"].clear()
    world.task(arn)["overrides"]["containerOverrides"].clear()
    world.call("DescribeTaskDefinition", taskDefinition="webordinary-edit")["taskDefinition"].clear()
    assert world.task(arn)["overrides"]["containerOverrides"] == environment(A="1")["containerOverrides"]
    assert world.call("DescribeTaskDefinition", taskDefinition="webordinary-edit")["taskDefinition"]["revision"] == 1


def test_a_definition_with_two_containers(world: World) -> None:
    sidecar = {"name": "sidecar", "image": "s:1", "essential": False, "memory": 128}
    world.call(
        "RegisterTaskDefinition",
        **{**DEFINITION, "containerDefinitions": [*DEFINITION["containerDefinitions"], sidecar]},
    )
    containers = world.task(world.started())["containers"]
    assert [(container["name"], container["lastStatus"]) for container in containers] == [
        (CONTAINER, "RUNNING"),
        ("sidecar", "RUNNING"),
    ]
    assert len({container["containerArn"] for container in containers}) == 2
