"""Who runs the containers is told when, in order and without the lock, and reports back."""

from __future__ import annotations

import threading

from controller.local.describe import LaunchedTask
from tests.local.world import CONTAINER, DEFINITION, World, address, environment


class Runner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.tasks: list[LaunchedTask] = []
        self.fails = ""

    def on_start(self, task: LaunchedTask) -> None:
        self.heard.append(("start", task.arn))
        self.tasks.append(task)
        if self.fails:
            raise RuntimeError(self.fails)

    def on_stop(self, task: LaunchedTask) -> None:
        self.heard.append(("stop", task.arn))


def test_containers_start_when_the_network_is_there_and_get_the_signal_in_stopping() -> None:
    # Developer Guide "Task lifecycle": ACTIVATING, STOPPING.
    runner = Runner()
    world = World(observer=runner)
    arn = world.start()
    assert world.ecs.next_change() == world.clock.now() + 30_000
    world.clock.step(seconds=29.999)
    world.ecs.settle()
    assert runner.heard == []
    world.clock.step(ms=1)
    world.ecs.settle()
    assert runner.heard == [("start", arn)]
    world.clock.step(seconds=5)
    world.stop(arn)
    world.clock.step(seconds=2)
    world.ecs.settle()
    world.ecs.settle()
    assert runner.heard == [("start", arn), ("stop", arn)]


def test_a_runner_gets_definition_and_overrides_as_one() -> None:
    runner = Runner()
    world = World(observer=runner)
    container = {
        "name": CONTAINER,
        "image": "edit:1",
        "entryPoint": ["python"],
        "command": ["-m", "old"],
        "environment": [{"name": "A", "value": "definition"}, {"name": "B", "value": "definition"}],
        "stopTimeout": 120,
        "workingDirectory": "/workspace",
    }
    world.call("RegisterTaskDefinition", **{**DEFINITION, "containerDefinitions": [container]})
    overrides = environment(B="override", C="override")
    overrides["containerOverrides"][0]["command"] = ["-m", "new"]
    arn = world.started(overrides=overrides)
    world.ecs.settle()
    [task] = runner.tasks
    assert (task.arn, task.address, task.stop_timeout) == (arn, address(world.task(arn)), 120)
    [launched] = task.containers
    assert launched.environment == {"A": "definition", "B": "override", "C": "override"}
    assert (launched.entry_point, launched.command) == (("python",), ("-m", "new"))
    assert launched.working_directory == "/workspace"


def test_a_task_stopped_before_it_ran_is_never_heard_of() -> None:
    runner = Runner()
    world = World(observer=runner)
    world.stopped(world.start())
    world.clock.step(hours=2)
    world.ecs.settle()
    assert runner.heard == []
    assert world.ecs.next_change() is None


def test_a_process_has_its_stop_timeout_and_no_more() -> None:
    # ContainerDefinition stopTimeout: 30 s if not specified, then the container is forcefully killed (128 + 9).
    world = World(observer=Runner())
    arn = world.started()
    world.stop(arn)
    world.clock.step(seconds=2 + 29.999)
    assert world.task(arn)["lastStatus"] == "STOPPING"
    world.clock.step(ms=1)
    task = world.task(arn)
    assert (task["lastStatus"], task["containers"][0]["exitCode"]) == ("DEPROVISIONING", 137)


def test_a_process_that_ends_after_the_signal_ends_the_wait() -> None:
    world = World(observer=Runner())
    arn = world.started()
    world.stop(arn)
    world.clock.step(seconds=4)
    world.ecs.exit_task(arn, 0)
    task = world.task(arn)
    assert (task["lastStatus"], task["containers"][0]["exitCode"]) == ("DEPROVISIONING", 0)


def test_a_runner_that_cannot_start_a_task_fails_it(caplog) -> None:
    runner = Runner()
    runner.fails = "no such program"
    world = World(observer=runner)
    arn = world.started()
    task = world.task(arn)
    # The call that found it out saw the task as it was before.
    assert task["lastStatus"] in ("ACTIVATING", "RUNNING")
    task = world.task(arn)
    assert (task["stopCode"], task["stoppedReason"]) == (
        "TaskFailedToStart",
        "CannotStartContainerError: no such program",
    )
    assert "cannot start the containers" in caplog.text


def test_a_runner_may_ask_ecs_from_another_thread() -> None:
    # With the lock held over on_start this would never end.
    class Asking(Runner):
        def on_start(self, task: LaunchedTask) -> None:
            super().on_start(task)
            asker = threading.Thread(target=world.listed)
            asker.start()
            asker.join(5)
            assert not asker.is_alive()

    runner = Asking()
    world = World(observer=runner)
    arn = world.started()
    world.ecs.settle()
    assert runner.heard == [("start", arn)]


def test_a_task_may_end_while_it_is_being_started() -> None:
    class Ending(Runner):
        def on_start(self, task: LaunchedTask) -> None:
            super().on_start(task)
            world.ecs.exit_task(task.arn, 9)

    runner = Ending()
    world = World(observer=runner)
    arn = world.started()
    world.ecs.settle()
    assert world.task(arn)["containers"][0]["exitCode"] == 9
    assert runner.heard == [("start", arn)]
