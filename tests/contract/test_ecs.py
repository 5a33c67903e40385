"""What Amazon ECS promises to who runs, lists, describes and stops tasks, on every engine.

The strict ECS keeps every rule: it is what the controller is tried on. Where ministack or moto differ,
differences.py says so, and docs/engines.md says who is right and where that is written.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from tests.contract.ecs import UNKNOWN, Ecs, refused
from tests.contract.engines import Engine
from tests.contract.rules import api, page, rule
from tests.local.world import CLUSTER, FAMILY, UP, address, environment, tags

ENGINES = ("local", "ministack", "moto")

HOUR = 3600
IDEMPOTENCY = "Amazon ECS API Reference, Ensuring idempotency"
LIFECYCLE = "Amazon ECS Developer Guide, Task lifecycle"


@pytest.fixture
def ecs(engine: Engine) -> Ecs:
    """Return an ECS with a cluster and a task definition."""
    return Ecs(engine)


# RunTask: client tokens

SAME_RESULT = page(IDEMPOTENCY, "the result of the original request is returned")


@rule(SAME_RESULT)
def test_a_repeated_token_gives_the_same_task(ecs: Ecs) -> None:
    """A RunTask repeated with its clientToken starts nothing and answers with the same task."""
    first = ecs.start(clientToken="t", overrides=environment(A="1"))
    assert ecs.start(clientToken="t", overrides=environment(A="1")) == first
    assert ecs.listed() == [first]


@rule(api("ecs", "ConflictException.resourceIds", "existing task ARNs which are already associated with"))
def test_another_request_with_the_token_is_a_conflict(ecs: Ecs) -> None:
    """The clientToken with other parameters is a ConflictException that names the task there is."""
    arn = ecs.start(clientToken="t")
    with refused("ConflictException") as caught:
        ecs.run(clientToken="t", overrides=environment(A="1"))
    assert caught.response["resourceIds"] == [arn]
    assert ecs.listed() == [arn]


@rule(page(IDEMPOTENCY, "requests to other clusters are considered a separate request"))
def test_a_token_belongs_to_its_cluster(ecs: Ecs) -> None:
    """The same clientToken in another cluster is another request."""
    ecs.client.create_cluster(clusterName="other")
    assert ecs.start(clientToken="t") != ecs.start(clientToken="t", cluster="other")


@rule(api("ecs", "RunTaskRequest.clientToken", "It must be unique and is case sensitive."))
def test_tokens_are_case_sensitive(ecs: Ecs) -> None:
    """Tokens that differ in case are two tokens."""
    assert ecs.start(clientToken="t") != ecs.start(clientToken="T")


@rule(page(IDEMPOTENCY, "stopped for under an hour only include the task ARN, last status, and desired status"))
def test_a_repeat_for_a_stopped_task_shows_it_dead(ecs: Ecs) -> None:
    """A repeat for a task that is STOPPED answers with that task and three facts of it."""
    arn = ecs.stopped(ecs.started(clientToken="t"))
    [task] = ecs.run(clientToken="t")["tasks"]
    assert task == {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}


@rule(page(IDEMPOTENCY, "The lifetime of the resource plus one hour"))
def test_a_token_is_free_an_hour_after_its_task(ecs: Ecs) -> None:
    """A token lives for an hour after its task is STOPPED, and then starts another task."""
    arn = ecs.stopped(ecs.started(clientToken="t"))
    ecs.engine.pass_time(HOUR - 1)
    assert ecs.start(clientToken="t") == arn
    ecs.engine.pass_time(1)
    assert ecs.start(clientToken="t") != arn


@rule(page(IDEMPOTENCY, "The time to live (TTL) for the RunTask client token is 24 hours."))
def test_a_token_lives_a_day_at_most(ecs: Ecs) -> None:
    """After 24 hours a token starts another task, though the first still runs."""
    arn = ecs.start(clientToken="t")
    ecs.engine.pass_time(24 * HOUR - 1)
    assert ecs.start(clientToken="t") == arn
    ecs.engine.pass_time(1)
    assert ecs.start(clientToken="t") != arn


@pytest.mark.parametrize("token", ["a" * 65, "a b", "é"], ids=["65 characters", "a space", "not ASCII"])
@rule(api("ecs", "RunTaskRequest.clientToken", "The valid characters are characters in the range of 33-126"))
def test_a_token_has_64_printable_characters(ecs: Ecs, token: str) -> None:
    """A clientToken has up to 64 characters, all of them ASCII 33 to 126."""
    with refused("InvalidParameterException"):
        ecs.run(clientToken=token)
    assert ecs.listed() == []


@rule(page(IDEMPOTENCY, "If you retry a request that completed successfully"))
def test_a_refused_request_leaves_its_token_free(ecs: Ecs) -> None:
    """A request that was refused uses no token up."""
    with refused("ClientException"):
        ecs.run(clientToken="t", taskDefinition="nobody")
    assert ecs.start(clientToken="t")


@rule(SAME_RESULT)
def test_16_at_once_with_one_token_get_one_task(ecs: Ecs) -> None:
    """Sixteen callers at once with one token get one task between them."""
    together = Barrier(16)

    def start(_: int) -> str:
        together.wait(10)
        return ecs.start(clientToken="t")

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(start, range(16)))) == 1
    assert len(ecs.listed()) == 1


# RunTask: what it takes and what it refuses


@pytest.mark.parametrize("count", [0, 11])
@rule(api("ecs", "RunTaskRequest.count", "You can specify up to 10 tasks for each call."))
def test_one_call_starts_1_to_10_tasks(ecs: Ecs, count: int) -> None:
    """RunTask starts between 1 and 10 tasks."""
    with refused("InvalidParameterException"):
        ecs.run(count=count)
    assert ecs.listed() == []


@pytest.mark.parametrize(
    "text", ["a" * 129, "abc:def", "john@email.com"], ids=["129 characters", "a colon", "an at sign"]
)
@rule(api("ecs", "RunTaskRequest.startedBy", "Up to 128 letters (uppercase and lowercase), numbers, hyphens (-)"))
def test_started_by_has_128_plain_characters(ecs: Ecs, text: str) -> None:
    """startedBy has up to 128 letters, digits, hyphens, slashes and underscores."""
    with refused("InvalidParameterException"):
        ecs.run(startedBy=text)
    assert ecs.listed() == []


@rule(api("ecs", "RunTaskRequest.overrides", "A total of 8192 characters are allowed for overrides."))
def test_overrides_have_8192_characters(ecs: Ecs) -> None:
    """Overrides have up to 8,192 characters, with their JSON."""
    room = 8192 - len(json.dumps(environment(A=""), separators=(",", ":")))
    assert ecs.start(overrides=environment(A="x" * room))
    with refused("InvalidParameterException"):
        ecs.run(overrides=environment(A="x" * (room + 1)))


@rule(api("ecs", "RunTaskRequest.overrides", "specify the name of a container in the specified task definition"))
def test_an_override_names_a_container_of_the_definition(ecs: Ecs) -> None:
    """An override for a container that the definition does not have is refused."""
    with refused("InvalidParameterException"):
        ecs.run(overrides={"containerOverrides": [{"name": "other"}]})
    assert ecs.listed() == []


@pytest.mark.parametrize(
    "wrong",
    [
        tags(**{f"k{n}": "" for n in range(51)}),
        [{"key": ""}],
        [{"key": "k" * 129}],
        [{"key": "k", "value": "v" * 257}],
        [{"key": "aws:k"}],
        [{"key": "k", "value": "AWS:v"}],
        [{"key": "k"}, {"key": "k"}],
    ],
    ids=["51", "an empty key", "a long key", "a long value", "a key of AWS", "a value of AWS", "a key twice"],
)
@rule(api("ecs", "RunTaskRequest.tags", "each tag key must be unique, and each tag key can have only one value"))
def test_tags_have_limits(ecs: Ecs, wrong: list[dict[str, str]]) -> None:
    """A task has up to 50 tags, keys of 1 to 128 and values of up to 256 characters, none twice, none of AWS's."""
    with refused("InvalidParameterException"):
        ecs.run(tags=wrong)
    assert ecs.listed() == []


@pytest.mark.parametrize("text", ["a#b", "a|b", "👍"], ids=["hash", "pipe", "emoji"])
@rule(api("ecs", "TagValue", r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"))
def test_tags_have_letters_digits_spaces_and_some_signs(ecs: Ecs, text: str) -> None:
    """Keys and values of tags have letters, digits, spaces and _ . : / = + - @ alone."""
    with refused("InvalidParameterException"):
        ecs.run(tags=[{"key": "k", "value": text}])
    assert ecs.listed() == []


@rule(api("ecs", "RunTaskRequest.launchType", "the capacityProviderStrategy parameter must be omitted"))
def test_launch_type_and_strategy_exclude_each_other(ecs: Ecs) -> None:
    """A request has a launch type or a capacity provider strategy, not both."""
    with refused("InvalidParameterException"):
        ecs.run(capacityProviderStrategy=[{"capacityProvider": "FARGATE"}])


@pytest.mark.parametrize("operation", ["run_task", "list_tasks", "describe_tasks", "stop_task"])
@rule(api("ecs", "ClusterNotFoundException", "The specified cluster wasn't found."))
def test_an_unknown_cluster_is_refused(ecs: Ecs, operation: str) -> None:
    """Every operation on tasks refuses a cluster that nobody made."""
    params: dict[str, dict[str, Any]] = {
        "run_task": {"taskDefinition": FAMILY, "launchType": "FARGATE", "networkConfiguration": ecs.network()},
        "describe_tasks": {"tasks": [UNKNOWN]},
        "stop_task": {"task": UNKNOWN},
    }
    with refused("ClusterNotFoundException"):
        getattr(ecs.client, operation)(cluster="nobody", **params.get(operation, {}))


@rule(api("ecs", "ClientException", "it might be specifying an identifier that isn't valid"))
def test_an_unknown_definition_is_refused(ecs: Ecs) -> None:
    """A task definition or a revision that is not there is a ClientException."""
    for name in ("nobody", f"{FAMILY}:9"):
        with refused("ClientException"):
            ecs.run(taskDefinition=name)


@rule(api("ecs", "DeregisterTaskDefinition", "You can't use an INACTIVE task definition to run new tasks"))
def test_an_inactive_definition_runs_nothing(ecs: Ecs) -> None:
    """A deregistered revision runs nothing more."""
    ecs.client.deregister_task_definition(taskDefinition=f"{FAMILY}:1")
    with refused("InvalidParameterException"):
        ecs.run(taskDefinition=f"{FAMILY}:1")
    with refused("ClientException"):
        ecs.run(taskDefinition=FAMILY)


@rule(api("ecs", "RunTaskRequest.taskDefinition", "If a revision isn't specified, the latest ACTIVE revision is used."))
def test_a_bare_family_is_its_newest_active_revision(ecs: Ecs) -> None:
    """A family without a revision is its newest ACTIVE one."""
    second = ecs.register()
    third = ecs.register()
    ecs.client.deregister_task_definition(taskDefinition=third)
    assert ecs.run()["tasks"][0]["taskDefinitionArn"] == second


@rule(api("ecs", "RunTaskRequest.networkConfiguration", "required for task definitions that use the awsvpc network"))
def test_awsvpc_needs_a_network(ecs: Ecs) -> None:
    """A task with the network mode awsvpc needs a network configuration."""
    with refused("InvalidParameterException"):
        ecs.run(networkConfiguration=None)


@rule(api("ecs", "AwsVpcConfiguration.subnets", "There's a limit of 16 subnets that can be specified."))
def test_a_network_has_16_subnets(ecs: Ecs) -> None:
    """A network configuration has up to 16 subnets."""
    with refused("InvalidParameterException"):
        ecs.run(networkConfiguration=ecs.network(subnets=[ecs.engine.subnet] * 17))


@rule(api("ecs", "AwsVpcConfiguration.securityGroups", "the default security group for the VPC is used"))
def test_security_groups_can_be_left_out(ecs: Ecs) -> None:
    """Without security groups the task gets its VPC's own."""
    assert ecs.start(networkConfiguration={"awsvpcConfiguration": {"subnets": [ecs.engine.subnet]}})


@rule(api("ecs", "Task.cpu", "This field is required for Fargate."))
def test_a_size_that_fargate_lacks_is_refused(ecs: Ecs) -> None:
    """CPU and memory of a Fargate task are one of the pairs that Fargate has."""
    with refused("ClientException"):
        ecs.run(overrides={"cpu": "1024", "memory": "512"})
    with refused("ClientException"):
        ecs.register(cpu="1024", memory="512")


@rule(api("ecs", "EphemeralStorage.sizeInGiB", "The minimum supported value is 21 GiB"))
def test_ephemeral_storage_has_21_gib_at_least(ecs: Ecs) -> None:
    """Ephemeral storage has 21 to 200 GiB."""
    for size in (20, 201):
        with refused("InvalidParameterException"):
            ecs.run(overrides={"ephemeralStorage": {"sizeInGiB": size}})


@rule(api("ecs", "RunTaskRequest.propagateTags", "An error will be received if you specify the SERVICE option"))
def test_tags_of_a_service_cannot_be_propagated(ecs: Ecs) -> None:
    """RunTask takes no propagateTags SERVICE."""
    with refused("InvalidParameterException"):
        ecs.run(propagateTags="SERVICE")


@rule(api("ecs", "RunTaskRequest.propagateTags", "propagate the tags from the task definition to the task"))
def test_tags_of_the_definition_come_along_when_asked_for(ecs: Ecs) -> None:
    """Tags of the task definition are those of the task only if propagateTags says so."""
    ecs.register(tags=tags(a="definition"))
    assert ecs.task(ecs.start(propagateTags="TASK_DEFINITION"))["tags"] == tags(a="definition")
    assert ecs.task(ecs.start())["tags"] == []


@rule(api("ecs", "Task.startedBy", "The tag specified when a task is started."))
def test_a_task_shows_what_was_asked_for(ecs: Ecs) -> None:
    """DescribeTasks shows startedBy, overrides, tags, definition and launch type as RunTask got them."""
    arn = ecs.started(startedBy="editctl/default", overrides=environment(SESSION="s1"), tags=tags(Key="Größe 1"))
    task = ecs.task(arn)
    assert (task["startedBy"], task["tags"], task["launchType"]) == ("editctl/default", tags(Key="Größe 1"), "FARGATE")
    assert task["overrides"]["containerOverrides"] == environment(SESSION="s1")["containerOverrides"]
    assert task["taskDefinitionArn"].endswith(f":task-definition/{FAMILY}:1")


@rule(api("ecs", "RunTaskRequest.group", "The default value is the family name of the task definition"))
def test_the_group_of_a_task_is_its_family(ecs: Ecs) -> None:
    """A task without a group is in that of its family."""
    assert ecs.run()["tasks"][0]["group"] == f"family:{FAMILY}"


@rule(page("Amazon ECS Developer Guide, Amazon Resource Names (ARNs) and IDs", "task/cluster-name/task-id"))
def test_a_task_arn_names_its_cluster(ecs: Ecs) -> None:
    """The ARN of a task names its cluster."""
    kind, cluster, _ = ecs.start().split(":", 5)[5].split("/")
    assert (kind, cluster) == ("task", CLUSTER)


@rule(api("ecs", "ContainerDefinition.memory", "If using the Fargate launch type, this parameter is optional."))
def test_a_container_needs_no_memory_of_its_own(ecs: Ecs) -> None:
    """On Fargate a container may leave its memory to the task."""
    ecs.register(family="plain", containerDefinitions=[{"name": "c", "image": "i"}])
    assert ecs.start(taskDefinition="plain")


# A task's life


@rule(page(LIFECYCLE, "PROVISIONING: Amazon ECS has to perform additional steps before the task is launched."))
def test_a_task_comes_up_in_steps(ecs: Ecs) -> None:
    """A task is PROVISIONING, PENDING and ACTIVATING before it is RUNNING."""
    arn = ecs.start()
    seen = []
    for _ in range(UP + 1):
        seen.append(ecs.task(arn)["lastStatus"])
        ecs.engine.pass_time(1)
    assert list(dict.fromkeys(seen)) == ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"]


@rule(api("ecs", "DescribeTasks", "Describes a specified task or tasks."))
def test_looking_at_a_task_does_not_change_it(ecs: Ecs) -> None:
    """A task runs for as long as nobody stops it, however often it is looked at."""
    arn = ecs.started()
    seen = [(task["lastStatus"], task["desiredStatus"]) for task in (ecs.task(arn) for _ in range(6))]
    assert set(seen) == {("RUNNING", "RUNNING")}


@rule(page(LIFECYCLE, "DEACTIVATING: Amazon ECS has to perform additional steps before the task is stopped."))
def test_a_task_ends_in_steps(ecs: Ecs) -> None:
    """A task that is stopped is DEACTIVATING, STOPPING and DEPROVISIONING before it is STOPPED."""
    arn = ecs.started()
    ecs.stop(arn)
    seen = []
    for _ in range(20):
        seen.append(ecs.task(arn)["lastStatus"])
        ecs.engine.pass_time(1)
    assert list(dict.fromkeys(seen)) == ["DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"]


@rule(api("ecs", "StopTaskRequest.reason", "the message appears in subsequent DescribeTasks"))
def test_a_stop_is_shown_at_once_with_its_reason(ecs: Ecs) -> None:
    """After StopTask the desired status is STOPPED, with stop code and reason."""
    arn = ecs.started()
    ecs.stop(arn, reason="idle for 23 min")
    task = ecs.task(arn)
    shown = (task["desiredStatus"], task.get("stopCode"), task.get("stoppedReason"))
    assert shown == ("STOPPED", "UserInitiated", "idle for 23 min")


@rule(api("ecs", "StopTask", "Any tags associated with the task will be deleted."))
def test_stop_task_deletes_the_tags(ecs: Ecs) -> None:
    """StopTask deletes the task's tags."""
    arn = ecs.started(tags=tags(Key="value"))
    ecs.stop(arn)
    assert ecs.task(arn)["tags"] == []


@rule(api("ecs", "Task.overrides", "One or more container overrides."))
def test_a_stopped_task_still_shows_who_started_it_and_what_for(ecs: Ecs) -> None:
    """startedBy and overrides stay when the tags are gone."""
    arn = ecs.stopped(ecs.started(startedBy="me", overrides=environment(CONTAINER_ID="a-b-c")))
    task = ecs.task(arn)
    assert (task["lastStatus"], task["startedBy"]) == ("STOPPED", "me")
    assert task["overrides"]["containerOverrides"] == environment(CONTAINER_ID="a-b-c")["containerOverrides"]


@rule(page("wazuh/wazuh issue 25439, AWS's answer in it", "The referenced task was not found"))
def test_an_unknown_task_cannot_be_stopped(ecs: Ecs) -> None:
    """StopTask of a task that is not there is an InvalidParameterException with a message of its own."""
    with refused("InvalidParameterException", "The referenced task was not found."):
        ecs.stop(UNKNOWN)


@rule(api("ecs", "DescribeTasks", "stopped tasks appear in the returned results for at least one hour"))
def test_a_stopped_task_is_shown_for_an_hour(ecs: Ecs) -> None:
    """A task that is STOPPED is described and listed for an hour more."""
    arn = ecs.stopped(ecs.started())
    ecs.engine.pass_time(HOUR - 1)
    assert ecs.task(arn)["lastStatus"] == "STOPPED"
    assert ecs.listed(desiredStatus="STOPPED") == [arn]


@rule(api("ecs", "Container.exitCode", "The exit code returned from the container."))
def test_a_container_shows_its_exit_code_when_it_has_ended(ecs: Ecs) -> None:
    """A container has an exit code after its end and none before."""
    arn = ecs.started()
    assert "exitCode" not in ecs.task(arn)["containers"][0]
    assert "exitCode" in ecs.task(ecs.stopped(arn))["containers"][0]


@rule(api("ecs", "Task.version", "Every time a task experiences a change that starts a CloudWatch event"))
def test_the_version_grows_with_every_change(ecs: Ecs) -> None:
    """A task's version is higher after a stop than before."""
    arn = ecs.started()
    before = ecs.task(arn).get("version", 0)
    ecs.stop(arn)
    assert ecs.task(arn).get("version", 0) > before


@rule(api("ecs", "Task.stoppedAt", "The Unix timestamp for the time when the task was stopped."))
def test_a_task_shows_when_it_was_created_started_and_stopped(ecs: Ecs) -> None:
    """createdAt is there from the start, startedAt with RUNNING, stoppedAt with STOPPED and not before."""
    arn = ecs.started()
    running = ecs.task(arn)
    assert {"createdAt", "startedAt", "stoppedAt"} & set(running) == {"createdAt", "startedAt"}
    assert running["createdAt"] <= running["startedAt"]
    stopped = ecs.task(ecs.stopped(arn))
    assert (stopped["createdAt"], stopped["startedAt"]) == (running["createdAt"], running["startedAt"])
    assert stopped["stoppedAt"] >= stopped["startedAt"]


@rule(api("ecs", "Attachment.details", "the private IPv4 address"))
def test_a_running_task_shows_its_address(ecs: Ecs) -> None:
    """A RUNNING task with awsvpc has an attached interface with a private address."""
    task = ecs.task(ecs.started())
    assert address(task)
    assert [each["status"] for each in task["attachments"]] == ["ATTACHED"]


# Reading


@rule(api("ecs", "ListTasksRequest.desiredStatus", "The default status filter is RUNNING"))
def test_the_default_list_is_what_is_desired_to_run(ecs: Ecs) -> None:
    """ListTasks without a status lists what is desired to run; what is being stopped is listed as STOPPED."""
    young, old = ecs.start(), ecs.start()
    ecs.stop(old)
    assert ecs.listed() == ecs.listed(desiredStatus="RUNNING") == [young]
    assert ecs.listed(desiredStatus="STOPPED") == [old]


@rule(api("ecs", "ListTasksRequest.desiredStatus", "based on a desired status of PENDING, this doesn't return any"))
def test_no_task_is_desired_to_be_pending(ecs: Ecs) -> None:
    """ListTasks with PENDING lists nothing."""
    ecs.start()
    assert ecs.listed(desiredStatus="PENDING") == []


@pytest.mark.parametrize("other", [{"desiredStatus": "RUNNING"}, {"family": FAMILY}], ids=["desiredStatus", "family"])
@rule(api("ecs", "ListTasksRequest.startedBy", "it must be the only filter that you use"))
def test_started_by_is_the_only_filter(ecs: Ecs, other: dict[str, str]) -> None:
    """ListTasks by startedBy takes no other filter."""
    with refused("InvalidParameterException"):
        ecs.listed(startedBy="me", **other)


@rule(api("ecs", "ListTasksRequest.startedBy", "limits the results to tasks that were started with that value"))
def test_started_by_finds_the_live_tasks_of_a_starter(ecs: Ecs) -> None:
    """ListTasks by startedBy lists that starter's tasks that are desired to run, of every family."""
    ecs.register(family="other")
    mine = [ecs.start(startedBy="me"), ecs.start(startedBy="me", taskDefinition="other")]
    gone = ecs.start(startedBy="me")
    ecs.start(startedBy="you")
    ecs.stop(gone)
    assert sorted(ecs.listed(startedBy="me")) == sorted(mine)


@rule(api("ecs", "ListTasksRequest.family", "limits the results to tasks that belong to that family"))
def test_a_family_is_found_by_its_whole_name(ecs: Ecs) -> None:
    """ListTasks by family lists that family, not those whose names begin so."""
    ecs.register(family=f"{FAMILY}-2")
    arn, other = ecs.start(), ecs.start(taskDefinition=f"{FAMILY}-2")
    assert (ecs.listed(family=FAMILY), ecs.listed(family=f"{FAMILY}-2")) == ([arn], [other])


@rule(api("ecs", "ListTasksRequest.launchType", "The launch type to use when filtering the ListTasks results."))
def test_tasks_are_found_by_launch_type(ecs: Ecs) -> None:
    """ListTasks by launch type lists tasks of that type."""
    arn = ecs.start()
    assert (ecs.listed(launchType="FARGATE"), ecs.listed(launchType="EC2")) == ([arn], [])


@rule(api("ecs", "ListTasksRequest.cluster", "The short name or full Amazon Resource Name (ARN) of the cluster"))
def test_clusters_whose_names_begin_alike_are_apart(ecs: Ecs) -> None:
    """Tasks of a cluster are not those of one whose name begins with its name."""
    ecs.client.create_cluster(clusterName=f"{CLUSTER}2")
    arn, other = ecs.start(), ecs.start(cluster=f"{CLUSTER}2")
    assert ecs.listed() == [arn]
    assert ecs.missing(other)


@rule(api("ecs", "ListTasksRequest.maxResults", "returns up to 100 results and a nextToken value if applicable"))
def test_a_page_has_100_tasks(ecs: Ecs) -> None:
    """ListTasks gives pages of up to 100, and all pages together are the list."""
    for _ in range(10):
        ecs.run(count=10)
    last = ecs.start()
    page_of_tasks = ecs.client.list_tasks(cluster=CLUSTER)
    assert len(page_of_tasks["taskArns"]) == 100
    everything = ecs.listed()
    assert (len(everything), len(set(everything)), last in everything) == (101, 101, True)


@rule(api("ecs", "ListTasksRequest.maxResults", "ListTasks only returns maxResults results in a single page"))
def test_a_page_can_be_smaller(ecs: Ecs) -> None:
    """ListTasks gives no more than maxResults in a page, and the rest behind its token."""
    ecs.run(count=5)
    first = ecs.client.list_tasks(cluster=CLUSTER, maxResults=2)
    assert len(first["taskArns"]) == 2
    assert len(set(ecs.listed(maxResults=2))) == 5


@rule(
    page("Amazon ECS Developer Guide, API failure reasons", "DescribeTasks, MISSING: The specified task wasn't found.")
)
def test_missing_tasks_are_failures_beside_the_others(ecs: Ecs) -> None:
    """DescribeTasks answers with the tasks there are, and names those that are not as MISSING."""
    arn = ecs.start()
    lost = arn.rpartition("/")[0] + "/" + UNKNOWN
    answer = ecs.describe(lost, arn)
    assert [task["taskArn"] for task in answer["tasks"]] == [arn]
    assert answer["failures"] == [{"arn": lost, "reason": "MISSING"}]


@rule(api("ecs", "DescribeTasksRequest.tasks", "A list of up to 100 task IDs or full ARN entries."))
def test_100_tasks_can_be_described_and_not_101(ecs: Ecs) -> None:
    """DescribeTasks takes up to 100 tasks."""
    assert len(ecs.describe(*(f"{n:032x}" for n in range(100)))["failures"]) == 100
    with refused("InvalidParameterException"):
        ecs.describe(*(f"{n:032x}" for n in range(101)))


@rule(page("aws/copilot-cli issue 3551, AWS's answer in it", "Tasks cannot be empty."))
def test_no_tasks_cannot_be_described(ecs: Ecs) -> None:
    """DescribeTasks of no task is refused."""
    with refused("InvalidParameterException", "Tasks cannot be empty."):
        ecs.describe()


@rule(api("ecs", "DescribeTasksRequest.tasks", "A list of up to 100 task IDs or full ARN entries."))
def test_a_task_is_described_by_its_id_too(ecs: Ecs) -> None:
    """DescribeTasks takes the last part of an ARN for the task."""
    arn = ecs.start()
    assert [task["taskArn"] for task in ecs.describe(arn.rpartition("/")[2])["tasks"]] == [arn]


@rule(api("ecs", "DescribeTasksRequest.include", "If this field is omitted, tags aren't included in the response."))
def test_tags_are_shown_only_when_asked_for(ecs: Ecs) -> None:
    """DescribeTasks shows tags when include says TAGS."""
    arn = ecs.start(tags=tags(Key="value"))
    assert ecs.task(arn)["tags"] == tags(Key="value")
    assert ecs.describe(arn)["tasks"][0].get("tags", []) == []


# Tags


@rule(
    api("ecs", "TagResource", "If existing tags on a resource aren't specified in the request parameters, they aren't")
)
def test_tags_are_added_and_changed(ecs: Ecs) -> None:
    """TagResource adds tags and changes those it names; UntagResource removes."""
    arn = ecs.start(tags=tags(a="1", b="2"))
    ecs.client.tag_resource(resourceArn=arn, tags=tags(b="3", c="4"))
    assert {tag["key"]: tag["value"] for tag in ecs.task(arn)["tags"]} == {"a": "1", "b": "3", "c": "4"}
    ecs.client.untag_resource(resourceArn=arn, tagKeys=["a"])
    shown = ecs.client.list_tags_for_resource(resourceArn=arn)["tags"]
    assert {tag["key"]: tag["value"] for tag in shown} == {"b": "3", "c": "4"}


@rule(api("ecs", "RunTaskRequest.tags", "Maximum number of tags per resource - 50"))
def test_50_tags_are_the_limit_over_all_calls(ecs: Ecs) -> None:
    """TagResource refuses what would be the fifty-first tag, and adds nothing then."""
    arn = ecs.start(tags=tags(**{f"k{n}": "" for n in range(50)}))
    with refused("InvalidParameterException"):
        ecs.client.tag_resource(resourceArn=arn, tags=tags(k50=""))
    assert len(ecs.task(arn)["tags"]) == 50


@rule(api("ecs", "TagResource", "Associates the specified tags to a resource with the specified resourceArn."))
def test_a_task_that_is_not_there_cannot_be_tagged(ecs: Ecs) -> None:
    """TagResource of a task that is not there is refused."""
    arn = ecs.start()
    with refused("InvalidParameterException"):
        ecs.client.tag_resource(resourceArn=arn.rpartition("/")[0] + "/" + UNKNOWN, tags=tags(a="1"))


# Task definitions and clusters


@rule(api("ecs", "TaskDefinition.revision", "This is even if you deregistered previous revisions in this family."))
def test_revisions_count_up_and_are_never_used_again(ecs: Ecs) -> None:
    """Each registration of a family is one revision more, whatever was deregistered."""
    ecs.client.deregister_task_definition(taskDefinition=f"{FAMILY}:1")
    assert ecs.register().endswith(f":task-definition/{FAMILY}:2")


@rule(api("ecs", "DeregisterTaskDefinition", "INACTIVE task definitions remain discoverable in your account"))
def test_a_deregistered_revision_stays_to_be_seen(ecs: Ecs) -> None:
    """A deregistered revision is described as INACTIVE; its family without a revision is not found then."""
    ecs.client.deregister_task_definition(taskDefinition=f"{FAMILY}:1")
    shown = ecs.client.describe_task_definition(taskDefinition=f"{FAMILY}:1")["taskDefinition"]
    assert shown["status"] == "INACTIVE"
    with refused("ClientException"):
        ecs.client.describe_task_definition(taskDefinition=FAMILY)


@rule(page("getmoto/moto pull request 5910, AWS's answer in it", "Unable to describe task definition."))
def test_an_unknown_definition_cannot_be_described(ecs: Ecs) -> None:
    """DescribeTaskDefinition of one that is not there is a ClientException with a message of its own."""
    with refused("ClientException", "Unable to describe task definition."):
        ecs.client.describe_task_definition(taskDefinition="nobody")


@rule(api("ecs", "DeregisterTaskDefinitionRequest.taskDefinition", "You must specify a revision."))
def test_a_definition_is_deregistered_by_its_revision(ecs: Ecs) -> None:
    """DeregisterTaskDefinition of a family without a revision is refused."""
    with refused("ClientException"):
        ecs.client.deregister_task_definition(taskDefinition=FAMILY)


@rule(api("ecs", "ListTaskDefinitionsRequest.familyPrefix", "The full family name to filter"))
def test_definitions_are_found_by_the_whole_name_of_their_family(ecs: Ecs) -> None:
    """ListTaskDefinitions by familyPrefix lists that family alone, its ACTIVE revisions first to last."""
    ecs.register(family=f"{FAMILY}-2")
    ecs.register()
    listed = ecs.client.list_task_definitions(familyPrefix=FAMILY)["taskDefinitionArns"]
    assert [arn.rpartition("/")[2] for arn in listed] == [f"{FAMILY}:1", f"{FAMILY}:2"]


@rule(api("ecs", "RegisterTaskDefinitionRequest.networkMode", "the awsvpc network mode is required"))
def test_fargate_needs_awsvpc(ecs: Ecs) -> None:
    """A definition for Fargate has the network mode awsvpc."""
    with refused("ClientException"):
        ecs.register(networkMode="bridge")


@rule(api("ecs", "RegisterTaskDefinitionRequest.family", "numbers, underscores, and hyphens are allowed"))
def test_a_family_has_a_plain_name(ecs: Ecs) -> None:
    """The name of a family has letters, digits, underscores and hyphens."""
    with refused("ClientException"):
        ecs.register(family="no spaces")


@rule(api("ecs", "CreateCluster", "you can create your own cluster with a unique name"))
def test_a_cluster_is_made_once(ecs: Ecs) -> None:
    """CreateCluster of one that is there gives that one."""
    made = [ecs.client.create_cluster(clusterName=CLUSTER)["cluster"]["clusterArn"] for _ in range(2)]
    assert made == ecs.client.list_clusters()["clusterArns"] * 2


@rule(
    page(
        "Amazon ECS Developer Guide, API failure reasons",
        "DescribeClusters, MISSING: The specified cluster wasn't found.",
    )
)
def test_missing_clusters_are_failures_beside_the_others(ecs: Ecs) -> None:
    """DescribeClusters answers with the clusters there are, and names those that are not as MISSING."""
    answer = ecs.client.describe_clusters(clusters=[CLUSTER, "nobody"])
    [cluster] = answer["clusters"]
    [failure] = answer["failures"]
    assert (cluster["status"], failure["reason"]) == ("ACTIVE", "MISSING")
    assert failure["arn"].endswith(":cluster/nobody")


@rule(api("ecs", "ClusterContainsTasksException", "You can't delete a cluster that has active tasks."))
def test_a_cluster_with_tasks_cannot_be_deleted(ecs: Ecs) -> None:
    """DeleteCluster is refused while a task runs."""
    ecs.started()
    with refused("ClusterContainsTasksException"):
        ecs.client.delete_cluster(cluster=CLUSTER)


@rule(api("ecs", "DeleteCluster", "The cluster transitions to the INACTIVE state."))
def test_a_deleted_cluster_is_inactive_and_takes_nothing(ecs: Ecs) -> None:
    """A deleted cluster is INACTIVE, and RunTask in it is refused."""
    assert ecs.client.delete_cluster(cluster=CLUSTER)["cluster"]["status"] == "INACTIVE"
    with refused("ClusterNotFoundException"):
        ecs.run()
