"""Our ECS adapter on the strict ECS: what it sees, how well it says it saw it, and what it sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from controller.aws.tasks import EcsSettings, TaskReader, Tasks, parse_task
from controller.core.identity import (
    MAX_FAMILY,
    ContainerIdentity,
    Ownership,
    environment_for,
    escape_family,
    project_family,
    tags_for,
)
from controller.core.model import Quality, Task
from controller.errors import (
    AccessDenied,
    ClusterNotFound,
    ConfigError,
    InvalidRequest,
    TaskDefinitionNotFound,
    TaskNotFound,
    Throttled,
    Unavailable,
)
from controller.local.ecs import StrictEcs
from controller.local.errors import EcsError
from tests.builders import NOW, TOM, identity
from tests.fakes.clock import FakeClock
from tests.fakes.ecs_client import StrictEcsClient, client_error

OWNER = identity(TOM)
EVA = identity("acme-shop-eva")
SETTINGS = EcsSettings(
    controller_id="prod", region="eu-west-1", subnets=("subnet-1", "subnet-2"), security_groups=("sg-1",)
)


def definition(family: str = "webordinary-edit", **changes: Any) -> dict[str, Any]:
    options = {"awslogs-group": "/edit", "awslogs-region": "eu-west-1"}
    container = {
        "name": "edit-container",
        "image": "edit:1",
        "essential": True,
        "logConfiguration": {"logDriver": "awslogs", "options": options},
    }
    return {
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [container],
        **changes,
    }


@dataclass
class Bench:
    """A strict ECS with a cluster and a definition, and ours on it."""

    ecs: StrictEcs
    client: StrictEcsClient
    clock: FakeClock
    settings: EcsSettings = SETTINGS
    tasks: Tasks = field(init=False)

    def __post_init__(self) -> None:
        self.tasks = Tasks(self.client, self.settings, self.clock)

    def with_settings(self, **changes: Any) -> Tasks:
        return Tasks(self.client, replace(self.settings, **changes), self.clock)

    def launch(self, owner: ContainerIdentity = OWNER, generation: int = 1) -> str:
        answer = self.tasks.run(self.tasks.prepare(owner, generation, self.clock.now()))
        assert answer.arn is not None
        return answer.arn

    def launch_as_others(self, **changes: Any) -> str:
        """Run a task as somebody else would."""
        request: dict[str, Any] = {
            "cluster": "webordinary",
            "taskDefinition": "webordinary-edit",
            "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        }
        arn: str = self.client.run_task(**{**request, **changes})["tasks"][0]["taskArn"]
        return arn

    def only(self) -> Task:
        (task,) = self.tasks.sweep().tasks
        return task


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    ecs = StrictEcs(clock, region="eu-west-1")
    client = StrictEcsClient(ecs)
    client.create_cluster(clusterName="webordinary")
    client.register_task_definition(**definition())
    ecs.calls.clear()
    return Bench(ecs, client, clock)


def original_environment(owner: ContainerIdentity) -> dict[str, Any]:
    """The overrides of the original system: its variables and no generation."""
    names = ("CLIENT_ID", "PROJECT_ID", "USER_ID", "CONTAINER_ID", "WORKSPACE_PATH", "AUTO_SHUTDOWN_MINUTES")
    values = environment_for(owner, 1, "x", 20)
    environment = [{"name": name, "value": values[name]} for name in names]
    return {"containerOverrides": [{"name": "edit-container", "environment": environment}]}


def original_tags(owner: ContainerIdentity) -> list[dict[str, str]]:
    values = {"ContainerId": owner.container_id, "ClientId": owner.client_id, "ProjectId": owner.project_id}
    return [{"key": key, "value": value} for key, value in values.items()]


# Launching


def test_a_request_says_everything_and_always_the_same(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 4, NOW)

    assert request == bench.tasks.prepare(OWNER, 4, NOW)
    parameters = json.loads(request)
    environment = parameters["overrides"]["containerOverrides"][0].pop("environment")
    assert {e["name"]: e["value"] for e in environment} == {
        "CLIENT_ID": "acme",
        "PROJECT_ID": "blog",
        "USER_ID": "tom",
        "CONTAINER_ID": "acme-blog-tom",
        "WORKSPACE_PATH": "/workspace/acme/blog",
        "AUTO_SHUTDOWN_MINUTES": "20",
        "EDIT_GENERATION": "4",
        "EDIT_CONTROLLER": "prod",
    }
    assert [e["name"] for e in environment] == sorted(e["name"] for e in environment)
    assert len(parameters.pop("clientToken")) == 64
    assert parameters == {
        "cluster": "webordinary",
        "taskDefinition": "arn:aws:ecs:eu-west-1:123456789012:task-definition/webordinary-edit:1",
        "count": 1,
        "launchType": "FARGATE",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": ["subnet-1", "subnet-2"],
                "securityGroups": ["sg-1"],
                "assignPublicIp": "DISABLED",
            }
        },
        "overrides": {"containerOverrides": [{"name": "edit-container"}]},
        "startedBy": "editctl/prod",
        "tags": [{"key": key, "value": value} for key, value in tags_for(OWNER, "prod").items()],
    }
    assert request == json.dumps(json.loads(request), sort_keys=True, separators=(",", ":"))


def test_the_token_changes_with_what_makes_it_another_launch(bench: Bench) -> None:
    def token(owner: ContainerIdentity, generation: int, at: int, tasks: Tasks = bench.tasks) -> str:
        return str(json.loads(tasks.prepare(owner, generation, at))["clientToken"])

    tokens = [token(OWNER, 1, NOW), token(OWNER, 2, NOW), token(OWNER, 1, NOW + 1), token(EVA, 1, NOW)]

    assert len(set(tokens)) == 4


def test_launch_settings_that_are_left_out(bench: Bench) -> None:
    tasks = bench.with_settings(
        launch_type="", subnets=(), security_groups=(), environment=lambda who, g: {"EDIT_X": "y"}
    )

    parameters = json.loads(tasks.prepare(OWNER, 1, NOW))

    assert "launchType" not in parameters
    assert "networkConfiguration" not in parameters
    assert {"name": "EDIT_X", "value": "y"} in parameters["overrides"]["containerOverrides"][0]["environment"]


def test_a_launch_shows_up_as_ours(bench: Bench) -> None:
    arn = bench.launch(generation=3)

    task = bench.only()
    assert (task.arn, task.identity, task.ownership, task.generation) == (arn, OWNER, Ownership.OURS, 3)
    assert (task.last_status, task.live, task.ready, task.ip) == ("PROVISIONING", True, False, None)
    assert task.created_at == NOW
    bench.clock.step(minutes=1)
    task = bench.only()
    assert (task.last_status, task.ready, task.started_at) == ("RUNNING", True, NOW + 26_000)
    assert task.ip is not None
    assert task.ip.startswith("127.1.")
    assert task.task_definition.endswith("webordinary-edit:1")


def test_the_same_request_gives_the_same_task(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 1, NOW)

    first, again = bench.tasks.run(request), bench.tasks.run(request)

    assert first == again
    assert first.stopped is False
    assert len(bench.tasks.sweep().tasks) == 1


def test_a_lost_reply_loses_no_task(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 1, NOW)
    bench.ecs.faults.lose_reply("RunTask")

    with pytest.raises(Unavailable):
        bench.tasks.run(request)

    assert bench.tasks.run(request).arn == bench.only().arn


def test_a_token_used_with_other_parameters_gives_the_first_launch_s_task(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 1, NOW)
    first = bench.tasks.run(request)
    other = json.dumps({**json.loads(request), "count": 2})

    assert bench.tasks.run(other) == first


def test_a_token_used_for_a_launch_that_placed_nothing(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 1, NOW)
    bench.ecs.faults.refuse_placement()
    bench.tasks.run(request)

    answer = bench.tasks.run(json.dumps({**json.loads(request), "count": 2}))

    assert (answer.arn, answer.failure) == (None, "ConflictException: ECS names no task of that call")


def test_a_replay_of_a_dead_task_says_so(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 1, NOW)
    arn = bench.tasks.run(request).arn
    assert arn is not None
    bench.tasks.stop(arn, "test")
    bench.clock.step(minutes=2)

    answer = bench.tasks.run(request)

    assert (answer.arn, answer.stopped) == (arn, True)


def test_failures_are_an_answer_and_replayed(bench: Bench) -> None:
    bench.ecs.faults.refuse_placement("RESOURCE:CPU", detail="no room")
    request = bench.tasks.prepare(OWNER, 1, NOW)

    assert bench.tasks.run(request).failure == "RESOURCE:CPU: no room"
    assert bench.tasks.run(request).failure == "RESOURCE:CPU: no room"
    bench.clock.step(minutes=61)
    assert bench.tasks.run(request).failure == "no reason given"
    assert bench.tasks.sweep().tasks == ()


def test_a_failure_may_start_a_task_all_the_same(bench: Bench) -> None:
    bench.ecs.faults.refuse_placement(appears_after_ms=30_000)
    answer = bench.tasks.run(bench.tasks.prepare(OWNER, 1, NOW))

    assert answer.failure.startswith("Capacity is unavailable")
    assert bench.tasks.sweep().tasks == ()
    bench.clock.step(seconds=31)
    assert bench.only().generation == 1


def test_what_ecs_refuses_is_an_error(bench: Bench) -> None:
    bad = json.dumps({**json.loads(bench.tasks.prepare(OWNER, 1, NOW)), "networkConfiguration": {}})

    with pytest.raises(InvalidRequest):
        bench.tasks.run(bad)
    bench.ecs.faults.fail("RunTask", "ThrottlingException")
    with pytest.raises(Throttled):
        bench.launch()


def test_an_environment_that_is_too_long_is_not_sent(bench: Bench) -> None:
    tasks = bench.with_settings(environment=lambda who, generation: {"EDIT_BIG": "x" * 8_000})

    with pytest.raises(InvalidRequest, match="too long to launch"):
        tasks.prepare(OWNER, 1, NOW)


def test_the_longest_identities_can_be_launched(bench: Bench) -> None:
    longest = ContainerIdentity("c" * 84, "p" * 85, "u" * 85)
    strange = ContainerIdentity("é" * 20, "プロジェクト", "jo hn+x@mail.example")

    for owner in (longest, strange):
        bench.launch(owner)

    assert {t.identity for t in bench.tasks.sweep().tasks} == {longest, strange}


# Revisions


def test_a_launch_pins_the_newest_active_revision(bench: Bench) -> None:
    bench.client.register_task_definition(**definition(cpu="512", memory="1024"))
    assert json.loads(bench.tasks.prepare(OWNER, 1, NOW))["taskDefinition"].endswith("webordinary-edit:2")

    bench.client.deregister_task_definition(taskDefinition="webordinary-edit:2")

    kept = json.loads(bench.tasks.prepare(OWNER, 1, NOW))["taskDefinition"]
    bench.clock.step(seconds=61)
    fresh = json.loads(bench.tasks.prepare(OWNER, 1, NOW))["taskDefinition"]
    assert (kept[-1], fresh[-1]) == ("2", "1")
    assert bench.ecs.calls["DescribeTaskDefinition"] == 2


@pytest.mark.parametrize(
    "configured",
    ["webordinary-edit:1", "arn:aws:ecs:eu-west-1:123456789012:task-definition/webordinary-edit:1"],
)
def test_a_pinned_revision_is_used_as_it_is(bench: Bench, configured: str) -> None:
    tasks = bench.with_settings(task_definition=configured)

    assert json.loads(tasks.prepare(OWNER, 1, NOW))["taskDefinition"] == configured
    assert bench.ecs.calls["DescribeTaskDefinition"] == 0


def test_no_definition(bench: Bench) -> None:
    tasks = bench.with_settings(task_definition="nothing")

    with pytest.raises(TaskDefinitionNotFound, match="no ACTIVE task definition 'nothing' in eu-west-1"):
        tasks.prepare(OWNER, 1, NOW)


def test_a_revision_that_was_deregistered_after_the_claim(bench: Bench) -> None:
    request = bench.tasks.prepare(OWNER, 1, NOW)
    bench.client.deregister_task_definition(taskDefinition="webordinary-edit:1")

    with pytest.raises(TaskDefinitionNotFound):
        bench.tasks.run(request)


def test_each_project_can_have_a_clone_of_the_family(bench: Bench) -> None:
    tasks = bench.with_settings(family_per_project=True)

    first = json.loads(tasks.prepare(OWNER, 1, NOW))["taskDefinition"]
    again = json.loads(tasks.prepare(replace(OWNER, user_id="eva"), 1, NOW))["taskDefinition"]
    other = json.loads(tasks.prepare(EVA, 1, NOW))["taskDefinition"]

    assert first == again
    assert first.endswith("task-definition/webordinary-edit-acme-blog:1")
    assert other.endswith("task-definition/webordinary-edit-acme-shop:1")
    made = bench.client.describe_task_definition(taskDefinition=first)["taskDefinition"]
    assert made["containerDefinitions"][0]["logConfiguration"]["options"] == {
        "awslogs-group": "/edit",
        "awslogs-region": "eu-west-1",
        "awslogs-stream-prefix": "acme-blog",
    }
    assert bench.ecs.calls["RegisterTaskDefinition"] == 2


def test_a_clone_leaves_other_log_drivers_alone(bench: Bench) -> None:
    containers: list[dict[str, Any]] = [
        {"name": "edit-container", "image": "edit:1"},
        {"name": "router", "image": "r:1", "logConfiguration": {"logDriver": "splunk", "options": {"x": "y"}}},
    ]
    bench.client.register_task_definition(**definition(containerDefinitions=containers))

    made = json.loads(bench.with_settings(family_per_project=True).prepare(OWNER, 1, NOW))["taskDefinition"]

    described = bench.client.describe_task_definition(taskDefinition=made)["taskDefinition"]["containerDefinitions"]
    assert [c.get("logConfiguration") for c in described] == [None, containers[1]["logConfiguration"]]


def test_a_clone_is_registered_again_only_when_its_base_changed(bench: Bench) -> None:
    before = json.loads(bench.with_settings(family_per_project=True).prepare(OWNER, 1, NOW))["taskDefinition"]
    tasks = bench.with_settings(family_per_project=True)
    assert json.loads(tasks.prepare(OWNER, 1, NOW))["taskDefinition"] == before
    bench.clock.step(minutes=2)
    assert json.loads(tasks.prepare(OWNER, 1, NOW))["taskDefinition"] == before

    bench.client.register_task_definition(**definition(cpu="512", memory="1024"))
    bench.clock.step(minutes=2)

    assert json.loads(tasks.prepare(OWNER, 1, NOW))["taskDefinition"] == before.replace(":1", ":2").replace(
        "arn:aws:ecs:eu-west-1:2", "arn:aws:ecs:eu-west-1:1"
    )


def test_a_task_of_a_clone_is_recognised(bench: Bench) -> None:
    tasks = bench.with_settings(family_per_project=True)
    tasks.run(tasks.prepare(OWNER, 1, NOW))

    (task,) = tasks.sweep().tasks

    assert (task.ownership, task.identity) == (Ownership.OURS, OWNER)


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("acme_blog-2", "acme_blog-2"),
        ("a.b", "a_2Eb"),
        ("a_2Eb", "a_5F2Eb"),
        ("john@email.com", "john_40email_2Ecom"),
        ("é", "_C3_A9"),
        ("a_2eb", "a_2eb"),
    ],
)
def test_family_names_tell_ids_apart(value: str, escaped: str) -> None:
    assert escape_family(value) == escaped


def test_a_family_name_is_never_too_long() -> None:
    long = ContainerIdentity("é" * 20, "ü" * 20, "u")
    longer = replace(long, project_id="ü" * 19 + "ö")

    assert len(project_family("webordinary-edit", long)) <= MAX_FAMILY
    assert len(project_family("w" * 200, long)) == MAX_FAMILY
    assert project_family("w" * 200, long) != project_family("w" * 200, longer)


# Whose tasks there are


def test_tasks_of_others_and_what_is_thought_of_them(bench: Bench) -> None:
    others = ContainerIdentity("zeta", "web", "ann")
    adopted = bench.launch_as_others(tags=original_tags(OWNER), overrides=original_environment(OWNER))
    bench.launch_as_others()  # carries no id: does not exist for us
    foreign_tags = [{"key": k, "value": v} for k, v in tags_for(EVA, "staging").items()]
    foreign = bench.launch_as_others(tags=foreign_tags, startedBy="editctl/staging")
    claimed = bench.launch_as_others(overrides=original_environment(others))

    seen = {t.arn: t for t in bench.tasks.sweep().tasks}

    assert {arn: t.ownership for arn, t in seen.items()} == {
        adopted: Ownership.ORIGINAL,
        foreign: Ownership.FOREIGN,
        claimed: Ownership.FOREIGN,
    }
    assert (seen[adopted].identity, seen[adopted].generation) == (OWNER, None)
    assert seen[claimed].identity == others


def test_an_original_task_is_ours_once_it_is_marked(bench: Bench) -> None:
    arn = bench.launch_as_others(tags=original_tags(OWNER), overrides=original_environment(OWNER))

    bench.tasks.mark(arn, OWNER)
    bench.tasks.mark(arn, OWNER)

    assert bench.only().ownership is Ownership.OURS


def test_marking_what_is_not_there_or_ends(bench: Bench) -> None:
    arn = bench.launch()
    bench.tasks.stop(arn, "test")

    with pytest.raises(TaskNotFound):
        bench.tasks.mark(arn, OWNER)
    with pytest.raises(TaskNotFound):
        bench.tasks.mark(arn.replace(arn[-32:], "0" * 32), OWNER)


def test_whether_a_task_has_an_agent_is_told_by_its_launch(bench: Bench) -> None:
    with_agent = bench.with_settings(environment=lambda who, n: {"EDIT_TOKEN_SHA256": f"digest of {who.user_id} {n}"})
    answer = with_agent.run(with_agent.prepare(OWNER, 4, NOW))
    bench.launch(identity("acme-blog-eva"))
    bench.launch_as_others(overrides=original_environment(identity("acme-shop-max")), tags=original_tags(OWNER))
    told = {task.arn: task.token_digest for task in bench.tasks.sweep().tasks}
    assert told.pop(answer.arn or "") == f"digest of {OWNER.user_id} 4"
    assert set(told.values()) == {""}


def test_a_stopped_task_is_recognised_without_its_tags(bench: Bench) -> None:
    arn = bench.launch(generation=2)
    bench.clock.step(minutes=1)
    bench.ecs.exit_on_stop(arn, 75)
    bench.tasks.stop(arn, "Idle: quiet for 20 min")

    task = bench.only()
    assert (task.identity, task.ownership, task.generation) == (OWNER, Ownership.OURS, 2)
    assert (task.live, task.stopping, task.stopped) == (False, True, False)
    bench.clock.step(minutes=1)
    task = bench.only()
    assert (task.stopped, task.exit_code, task.stop_code) == (True, 75, "UserInitiated")
    assert (task.stopped_reason, task.ip) == ("Idle: quiet for 20 min", None)
    assert task.stopped_at is not None
    bench.clock.step(hours=2)
    assert bench.tasks.sweep().tasks == ()


# How well it was seen


def test_no_task_completely_seen_is_a_valid_answer(bench: Bench) -> None:
    read = bench.tasks.sweep()

    assert (read.tasks, read.sight.quality, read.sight.read_at) == ((), Quality.COMPLETE, NOW)
    assert bench.ecs.calls == {"ListTasks": 2}


@pytest.mark.parametrize("overlapping", [False, True])
def test_250_tasks_are_described_a_hundred_at_a_time(bench: Bench, overlapping: bool) -> None:
    bench.ecs.quirks.overlapping_pages = overlapping
    arns = {bench.launch(ContainerIdentity("acme", "blog", f"u{i}")) for i in range(250)}
    bench.ecs.calls.clear()

    read = bench.tasks.sweep()

    assert {t.arn for t in read.tasks} == arns
    assert len(read.tasks) == 250
    assert read.sight.complete
    assert bench.ecs.calls == {"ListTasks": 4, "DescribeTasks": 3}


def test_the_first_page_fails(bench: Bench) -> None:
    bench.launch()
    bench.ecs.faults.fail("ListTasks", "ThrottlingException")

    read = bench.tasks.sweep()

    assert (read.tasks, read.sight.quality) == ((), Quality.UNKNOWN)
    assert read.sight.detail == "page 1 of RUNNING tasks failed: ThrottlingException"


class Nth:
    """A client whose nth call of a method fails, or answers with something else."""

    def __init__(self, client: StrictEcsClient, method: str, number: int, instead: Callable[[Any], Any]) -> None:
        self._client = client
        self._method = method
        self._number = number
        self._instead = instead
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name != self._method:
            return call

        def counted(**parameters: Any) -> Any:
            self.count += 1
            answer = call(**parameters)
            return self._instead(answer) if self.count == self._number else answer

        return counted


def fails(answer: Any) -> Any:
    raise client_error("X", EcsError("ThrottlingException", "Rate exceeded"))


@pytest.mark.parametrize(
    ("number", "tasks", "detail"),
    [
        (2, 100, "page 2 of RUNNING tasks failed: ThrottlingException"),
        (3, 200, "page 3 of RUNNING tasks failed: ThrottlingException"),
        (4, 250, "page 1 of STOPPED tasks failed: ThrottlingException"),
    ],
)
def test_a_later_page_fails(bench: Bench, number: int, tasks: int, detail: str) -> None:
    for i in range(250):
        bench.launch(ContainerIdentity("acme", "blog", f"u{i}"))
    client: Any = Nth(bench.client, "list_tasks", number, fails)

    read = TaskReader(client, SETTINGS, bench.clock).sweep()

    assert (len(read.tasks), read.sight.quality, read.sight.detail) == (tasks, Quality.INCOMPLETE, detail)


def test_a_batch_fails(bench: Bench) -> None:
    for i in range(150):
        bench.launch(ContainerIdentity("acme", "blog", f"u{i}"))
    client: Any = Nth(bench.client, "describe_tasks", 2, fails)

    read = TaskReader(client, SETTINGS, bench.clock).sweep()

    assert (len(read.tasks), read.sight.quality) == (100, Quality.INCOMPLETE)
    assert read.sight.detail == "50 tasks could not be described: ThrottlingException"


def test_a_list_without_end(bench: Bench) -> None:
    bench.launch()

    class Circling(StrictEcsClient):
        def list_tasks(self, **parameters: Any) -> dict[str, Any]:
            parameters.pop("nextToken", None)
            return {**super().list_tasks(**parameters), "nextToken": "again"}

    read = TaskReader(Circling(bench.ecs), SETTINGS, bench.clock).sweep()

    assert (len(read.tasks), read.sight.quality) == (1, Quality.INCOMPLETE)
    assert "RepeatedToken" in read.sight.detail


def test_an_answer_of_somebody_else_is_no_empty_list(bench: Bench) -> None:
    bench.launch()

    class Portal(StrictEcsClient):
        def list_tasks(self, **parameters: Any) -> dict[str, Any]:
            return {"ResponseMetadata": {"HTTPStatusCode": 200}}

    read = TaskReader(Portal(bench.ecs), SETTINGS, bench.clock).sweep()

    assert read.sight.quality is Quality.UNKNOWN


def test_a_listed_task_that_cannot_be_described_yet(bench: Bench) -> None:
    bench.ecs.quirks.describe_lag_ms = 1_000
    bench.launch()

    read = bench.tasks.sweep()

    assert (read.tasks, read.sight.quality, read.missing) == ((), Quality.INCOMPLETE, frozenset())
    assert read.sight.detail == "1 listed tasks cannot be described yet"
    bench.clock.step(seconds=1)
    assert bench.tasks.sweep().sight.complete


def test_a_task_that_is_described_at_the_second_try_was_seen(bench: Bench) -> None:
    arn = bench.launch()

    def forgets(answer: Any) -> Any:
        return {**answer, "tasks": [], "failures": [{"arn": arn, "reason": "MISSING"}]}

    client: Any = Nth(bench.client, "describe_tasks", 1, forgets)
    read = TaskReader(client, SETTINGS, bench.clock).sweep()

    assert ([t.arn for t in read.tasks], read.sight.quality, read.missing) == ([arn], Quality.COMPLETE, frozenset())


def test_a_list_that_lags_shows_less_and_describe_shows_the_named_one(bench: Bench) -> None:
    bench.ecs.quirks.list_lag_ms = 60_000
    arn = bench.launch()

    assert bench.tasks.sweep().tasks == ()
    read = bench.tasks.describe([arn])
    assert [t.arn for t in read.tasks] == [arn]
    assert read.sight.complete


def test_describe_says_what_is_missing(bench: Bench) -> None:
    arn = bench.launch()
    gone = arn.replace(arn[-32:], "0" * 32)
    elsewhere = arn.replace("/webordinary/", "/staging/")

    read = bench.tasks.describe([arn, gone, "no arn at all", elsewhere])

    assert [t.arn for t in read.tasks] == [arn]
    assert read.missing == {gone, "no arn at all"}
    assert read.sight.complete


def test_describe_of_nothing_calls_nobody(bench: Bench) -> None:
    read = bench.tasks.describe([])

    assert (read.tasks, read.missing, read.sight.complete) == ((), frozenset(), True)
    assert bench.ecs.calls == {}


def test_a_describe_that_fails(bench: Bench) -> None:
    arn = bench.launch()
    bench.ecs.faults.fail("DescribeTasks", "ServerException")

    read = bench.tasks.describe([arn])

    assert (read.tasks, read.missing, read.sight.quality) == ((), frozenset(), Quality.UNKNOWN)


BAD = "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/bad"


class Picky(StrictEcsClient):
    """Refuses a call for the sake of one ARN, as ECS does when an id has another length."""

    refuse_all = False
    asked = 0

    def describe_tasks(self, **parameters: Any) -> dict[str, Any]:
        self.asked += 1
        if self.refuse_all or BAD in parameters["tasks"]:
            raise client_error("DescribeTasks", EcsError("InvalidParameterException", "taskId length"))
        return super().describe_tasks(**parameters)

    def list_tasks(self, **parameters: Any) -> dict[str, Any]:
        answer = super().list_tasks(**parameters)
        return (
            {**answer, "taskArns": [BAD, *answer["taskArns"]]} if parameters["desiredStatus"] == "RUNNING" else answer
        )


def test_one_arn_that_ecs_refuses_does_not_hide_the_others(bench: Bench) -> None:
    arns = [bench.launch(ContainerIdentity("acme", "blog", f"u{i}")) for i in range(20)]
    reader = TaskReader(Picky(bench.ecs), SETTINGS, bench.clock)

    named, swept = reader.describe([*arns[:7], BAD, *arns[7:]]), reader.sweep()

    assert {t.arn for t in named.tasks} == {t.arn for t in swept.tasks} == set(arns)
    # What a record names spoils the sight of no other container; what ECS lists and does not describe does.
    assert (named.sight.quality, named.missing) == (Quality.COMPLETE, frozenset())
    assert swept.sight.quality is Quality.INCOMPLETE
    assert BAD in named.sight.detail
    assert BAD in swept.sight.detail


def test_what_is_refused_as_a_whole_is_not_halved_for_ever(bench: Bench) -> None:
    client = Picky(bench.ecs)
    client.refuse_all = True

    read = TaskReader(client, SETTINGS, bench.clock).describe([BAD + str(i) for i in range(100)])

    assert (read.sight.quality, read.missing) == (Quality.UNKNOWN, frozenset())
    assert client.asked <= 70


def test_a_shorter_answer_proves_nothing(bench: Bench) -> None:
    arns = [bench.launch(ContainerIdentity("acme", "blog", f"u{i}")) for i in range(3)]

    def shorter(answer: Any) -> Any:
        return {**answer, "tasks": answer["tasks"][:1]}

    for look in (lambda reader: reader.sweep(), lambda reader: reader.describe(arns)):
        client: Any = Nth(bench.client, "describe_tasks", 1, shorter)
        read = look(TaskReader(client, SETTINGS, bench.clock))
        assert (len(read.tasks), read.missing, read.sight.quality) == (1, frozenset(), Quality.INCOMPLETE)
        assert read.sight.detail == "2 tasks were left out of the answer"


def test_another_reason_than_missing_is_no_sight(bench: Bench) -> None:
    arn = bench.launch()
    client: Any = Nth(
        bench.client, "describe_tasks", 1, lambda answer: {"tasks": [], "failures": [{"arn": arn, "reason": "AGENT"}]}
    )

    read = TaskReader(client, SETTINGS, bench.clock).sweep()

    assert (read.sight.quality, read.sight.detail) == (Quality.INCOMPLETE, "a task cannot be described: AGENT")


# Parsing


def described(**changes: Any) -> dict[str, Any]:
    return {
        "taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/1",
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/webordinary-edit:3",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "startedBy": "editctl/prod",
        "tags": [{"key": key, "value": value} for key, value in tags_for(OWNER, "prod").items()],
        "overrides": original_environment(OWNER),
        **changes,
    }


def parsed(**changes: Any) -> Task:
    task = parse_task(described(**changes), SETTINGS, NOW)
    assert task is not None
    return task


def interface(status: str = "ATTACHED", **details: str) -> dict[str, Any]:
    return {
        "type": "ElasticNetworkInterface",
        "status": status,
        "details": [{"name": name, "value": value} for name, value in details.items()],
    }


def test_a_fresh_task_without_parts_is_not_ready() -> None:
    task = parsed(lastStatus="PROVISIONING", attachments=[], containers=[])

    assert (task.has_interface, task.ready, task.created_at) == (True, False, NOW)


def test_a_running_task_without_any_interface_is_ready() -> None:
    task = parsed(attachments=[])

    assert (task.has_interface, task.ip, task.ready) == (False, None, True)


def test_a_running_task_waits_for_its_address() -> None:
    assert parsed(attachments=[interface()]).ready is False
    assert parsed(attachments=[interface(privateIPv4Address="10.0.0.7")]).ready is True


def test_an_address_that_was_given_back_is_not_the_task_s() -> None:
    gone = interface("DELETED", privateIPv4Address="10.0.0.7")

    assert parsed(lastStatus="STOPPED", desiredStatus="STOPPED", attachments=[gone]).ip is None


def test_times_as_boto3_or_the_wire_give_them() -> None:
    assert parsed(createdAt=NOW / 1000 + 0.123).created_at == NOW + 123
    assert parsed(createdAt=None, startedAt=NOW / 1000 - 5).created_at == NOW - 5_000


def test_the_exit_code_is_the_edit_container_s() -> None:
    containers = [{"name": "sidecar", "exitCode": 1}, {"name": "edit-container", "exitCode": 0}, {"name": "x"}]

    assert parsed(containers=containers).exit_code == 0
    assert parsed(containers=[{"name": "edit-container"}]).exit_code is None


def test_variables_of_another_container_name_nobody() -> None:
    overrides = original_environment(OWNER)
    overrides["containerOverrides"][0]["name"] = "sidecar"

    assert parse_task(described(tags=[], overrides=overrides), SETTINGS, NOW) is None


def test_tags_and_environment_that_disagree_are_foreign() -> None:
    assert parsed(overrides=original_environment(EVA)).ownership is Ownership.FOREIGN


def test_a_task_that_says_hardly_anything() -> None:
    assert parse_task({"taskArn": "arn:x"}, SETTINGS, NOW) is None


# Stopping


def test_a_stop_may_be_repeated_and_its_reason_is_cut(bench: Bench) -> None:
    arn = bench.launch()

    bench.tasks.stop(arn, "x" * 300)
    bench.tasks.stop(arn, "again")

    assert bench.only().stopped_reason == "x" * 255


def test_a_stop_of_what_is_not_there(bench: Bench) -> None:
    arn = bench.launch()

    bench.tasks.stop(arn.replace(arn[-32:], "0" * 32), "gone")

    assert bench.only().live


def test_a_stop_that_policy_refuses_because_the_tags_are_gone(bench: Bench) -> None:
    arn = bench.launch()
    bench.tasks.stop(arn, "first")
    bench.ecs.faults.fail("StopTask", "AccessDeniedException")

    bench.tasks.stop(arn, "again")


def test_a_stop_that_policy_refuses_while_the_task_lives(bench: Bench) -> None:
    arn = bench.launch()
    bench.ecs.faults.fail("StopTask", "AccessDeniedException", times=2)

    with pytest.raises(AccessDenied):
        bench.tasks.stop(arn, "first")
    with pytest.raises(AccessDenied):
        bench.tasks.stop(arn.replace(arn[-32:], "0" * 32), "not there yet")


# Before anything is done


def test_preflight_names_the_cluster(bench: Bench) -> None:
    assert bench.tasks.preflight() == "arn:aws:ecs:eu-west-1:123456789012:cluster/webordinary"
    assert TaskReader(bench.client, SETTINGS, bench.clock).preflight().endswith("cluster/webordinary")
    by_arn = bench.with_settings(cluster="arn:aws:ecs:eu-west-1:123456789012:cluster/webordinary")
    assert by_arn.preflight().endswith("cluster/webordinary")


def test_preflight_without_the_cluster(bench: Bench) -> None:
    bench.client.create_cluster(clusterName="staging")

    with pytest.raises(ClusterNotFound) as missing:
        bench.with_settings(cluster="webordinry").preflight()

    assert missing.value.lines() == (
        "no ECS cluster named 'webordinry' in eu-west-1",
        "clusters here: staging, webordinary",
        "set --cluster or EDITCTL_CLUSTER; `editctl config` shows where the value came from",
    )


def test_preflight_in_an_empty_region(clock: FakeClock) -> None:
    ecs = StrictEcs(clock)

    with pytest.raises(ClusterNotFound) as missing:
        TaskReader(StrictEcsClient(ecs), EcsSettings(), clock).preflight()
    assert missing.value.why == "there is no cluster here at all"

    ecs.faults.fail("ListClusters", "AccessDeniedException")
    with pytest.raises(ClusterNotFound) as missing:
        TaskReader(StrictEcsClient(ecs), EcsSettings(), clock).preflight()
    assert missing.value.why == "which clusters there are could not be asked"


def test_preflight_of_what_starts_need(bench: Bench) -> None:
    with pytest.raises(TaskDefinitionNotFound):
        bench.with_settings(task_definition="nothing").preflight()
    with pytest.raises(ConfigError, match="has no container 'editor'"):
        bench.with_settings(container_name="editor").preflight()
    with pytest.raises(ConfigError, match="no subnets are set"):
        bench.with_settings(subnets=()).preflight()
    bench.client.deregister_task_definition(taskDefinition="webordinary-edit:1")
    with pytest.raises(TaskDefinitionNotFound) as inactive:
        bench.with_settings(task_definition="webordinary-edit:1").preflight()
    assert "is INACTIVE" in inactive.value.why


def test_a_cluster_that_is_not_there_is_no_empty_sight(bench: Bench) -> None:
    read = bench.with_settings(cluster="webordinry").sweep()

    assert read.sight.quality is Quality.UNKNOWN
    assert read.sight.detail == "page 1 of RUNNING tasks failed: no ECS cluster named 'webordinry' in eu-west-1"


def test_what_only_looks_has_nothing_that_writes() -> None:
    for name in ("run", "stop", "mark", "prepare"):
        assert not hasattr(TaskReader, name)
