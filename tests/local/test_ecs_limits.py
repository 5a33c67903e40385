"""What RunTask refuses: AmazonECS APIReference, RunTask, TaskOverride, ContainerOverride, Tag, AwsVpcConfiguration."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.local.ecs import EcsError
from tests.local.world import CLUSTER, CONTAINER, DEFINITION, World, environment, refused, tags

VPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}

# (what is wrong, the parameters, the error's code, a part of its message)
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("count 0", {"count": 0}, "InvalidParameterException", "Count"),
    ("count 11", {"count": 11}, "InvalidParameterException", "Count"),
    ("count is text", {"count": "1"}, "SerializationException", "count"),
    ("count is a truth", {"count": True}, "SerializationException", "count"),
    ("startedBy is long", {"startedBy": "a" * 129}, "InvalidParameterException", "startedBy"),
    ("startedBy has a colon", {"startedBy": "abc:def"}, "InvalidParameterException", "startedBy"),
    ("startedBy has an at", {"startedBy": "john@email.com"}, "InvalidParameterException", "startedBy"),
    (
        "launch type and strategy",
        {"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
        "InvalidParameterException",
        "Specifying both a launch type and capacity provider strategy is not supported.",
    ),
    ("EC2 without instances", {"launchType": "EC2"}, "InvalidParameterException", "No Container Instances"),
    ("no such launch type", {"launchType": "FARGATE_SPOT"}, "InvalidParameterException", "FARGATE_SPOT"),
    ("no network", {"networkConfiguration": {}}, "InvalidParameterException", "Network Configuration must be provided"),
    (
        "no subnets",
        {"networkConfiguration": {"awsvpcConfiguration": {"subnets": []}}},
        "InvalidParameterException",
        "subnets",
    ),
    (
        "17 subnets",
        {"networkConfiguration": {"awsvpcConfiguration": {"subnets": [f"subnet-{n}" for n in range(17)]}}},
        "InvalidParameterException",
        "subnets",
    ),
    (
        "6 security groups",
        {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"], "securityGroups": ["sg"] * 6}}},
        "InvalidParameterException",
        "security groups",
    ),
    (
        "public address perhaps",
        {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"], "assignPublicIp": "MAYBE"}}},
        "InvalidParameterException",
        "assignPublicIp",
    ),
    ("no such definition", {"taskDefinition": "nobody"}, "ClientException", "TaskDefinition not found."),
    ("no such revision", {"taskDefinition": "webordinary-edit:2"}, "ClientException", "TaskDefinition not found."),
    ("no definition", {"taskDefinition": ""}, "InvalidParameterException", "TaskDefinition cannot be empty."),
    ("no such cluster", {"cluster": "nobody"}, "ClusterNotFoundException", "Cluster not found."),
    ("the default cluster", {"cluster": "default"}, "ClusterNotFoundException", "Cluster not found."),
    (
        "no such container",
        {"overrides": {"containerOverrides": [{"name": "other"}]}},
        "InvalidParameterException",
        "Override for container named other is not a container in the TaskDefinition.",
    ),
    (
        "an image",
        {"overrides": {"containerOverrides": [{"name": CONTAINER, "image": "x"}]}},
        "InvalidParameterException",
        "image",
    ),
    ("a nameless override", {"overrides": {"containerOverrides": [{}]}}, "InvalidParameterException", "name"),
    ("storage", {"overrides": {"ephemeralStorage": {"sizeInGiB": 20}}}, "InvalidParameterException", "21 and 200"),
    ("a size Fargate lacks", {"overrides": {"cpu": "1024", "memory": "512"}}, "ClientException", "No Fargate"),
    ("a size of another kind", {"overrides": {"cpu": "one"}}, "ClientException", "cpu"),
    ("tags of a service", {"propagateTags": "SERVICE"}, "InvalidParameterException", "propagateTags"),
    ("51 tags", {"tags": tags(**{f"k{n}": "" for n in range(51)})}, "InvalidParameterException", "50"),
    ("an empty key", {"tags": [{"key": "", "value": "v"}]}, "InvalidParameterException", "tag key"),
    ("a long key", {"tags": [{"key": "k" * 129}]}, "InvalidParameterException", "tag key"),
    ("a long value", {"tags": [{"key": "k", "value": "v" * 257}]}, "InvalidParameterException", "tag value"),
    ("a key of AWS", {"tags": [{"key": "aws:x"}]}, "InvalidParameterException", "aws:"),
    ("a key of AWS, loud", {"tags": [{"key": "AwS:x"}]}, "InvalidParameterException", "aws:"),
    ("a value of AWS", {"tags": [{"key": "k", "value": "aws:x"}]}, "InvalidParameterException", "aws:"),
    ("a key twice", {"tags": [{"key": "k"}, {"key": "k"}]}, "InvalidParameterException", "Duplicate"),
    ("a hash in a tag", {"tags": [{"key": "k", "value": "a#b"}]}, "InvalidParameterException", "not allowed"),
    ("a pipe in a key", {"tags": [{"key": "a|b"}]}, "InvalidParameterException", "not allowed"),
    ("an emoji", {"tags": [{"key": "k", "value": "👍"}]}, "InvalidParameterException", "not allowed"),
    ("a platform", {"platformVersion": "9"}, "InvalidParameterException", "9"),
    ("exec without a role", {"enableExecuteCommand": True}, "ClientException", "role"),
    ("what is not modelled", {"volumeConfigurations": []}, "InvalidParameterException", "volumeConfigurations"),
]


@pytest.mark.parametrize(("params", "code", "text"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_request_that_is_refused_starts_nothing(world: World, params: dict[str, Any], code: str, text: str) -> None:
    with refused(code, text):
        world.run(**params)
    assert world.ecs.snapshot() == []


ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("count 10", {"count": 10}),
    ("startedBy", {"startedBy": "editctl/Default_1-" + "x" * 110}),
    ("50 tags", {"tags": tags(**{f"k{n}": "" for n in range(50)})}),
    ("long tags", {"tags": [{"key": "k" * 128, "value": "v" * 256}]}),
    ("tag characters", {"tags": [{"key": "Größe 名前_.:/=+-@", "value": "Größe 名前_.:/=+-@"}]}),
    ("a tag without a value", {"tags": [{"key": "k"}]}),
    ("other keys that look alike", {"tags": [{"key": "aws"}, {"key": "my aws:x"}, {"key": "K"}, {"key": "k"}]}),
    ("an ARN", {"cluster": f"arn:aws:ecs:us-east-1:123456789012:cluster/{CLUSTER}"}),
    ("a revision", {"taskDefinition": "webordinary-edit:1"}),
    (
        "an ARN of a definition",
        {"taskDefinition": "arn:aws:ecs:us-east-1:123456789012:task-definition/webordinary-edit:1"},
    ),
    ("a size", {"overrides": {"cpu": "2 vCPU", "memory": "4 GB"}}),
    ("storage", {"overrides": {"ephemeralStorage": {"sizeInGiB": 21}}}),
    ("exec with a role", {"enableExecuteCommand": True, "overrides": {"taskRoleArn": "arn:aws:iam::1:role/r"}}),
]


@pytest.mark.parametrize("params", [row[1] for row in ALLOWED], ids=[row[0] for row in ALLOWED])
def test_a_request_that_is_allowed(world: World, params: dict[str, Any]) -> None:
    assert len(world.run(**params)["tasks"]) == params.get("count", 1)


@given(st.integers(min_value=-3, max_value=3))
def test_overrides_may_have_8192_characters_with_their_json(beyond: int) -> None:
    # RunTask overrides: this limit includes the JSON formatting characters of the override structure.
    world = World()
    room = 8192 - len(json.dumps(environment(A=""), separators=(",", ":")))
    overrides = environment(A="x" * (room + beyond))
    if beyond <= 0:
        assert world.run(overrides=overrides)["tasks"]
    else:
        with refused("InvalidParameterException", "Container Overrides length must be at most 8192"):
            world.run(overrides=overrides)


@given(st.text(max_size=140))
def test_started_by_takes_letters_digits_hyphen_slash_and_underscore(text: str) -> None:
    # RunTask startedBy.
    allowed = len(text) <= 128 and all(c.isascii() and (c.isalnum() or c in "-/_") for c in text)
    assert _accepted(startedBy=text) is allowed


@given(st.text(min_size=1, max_size=8), st.text(max_size=8))
def test_tags_take_the_characters_of_their_pattern(key: str, value: str) -> None:
    # TagKey and TagValue: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)
    def fits(text: str) -> bool:
        return not text.lower().startswith("aws:") and all(
            c in "_.:/=+-@" or unicodedata.category(c)[0] in "LZN" for c in text
        )

    assert _accepted(tags=[{"key": key, "value": value}]) is (fits(key) and fits(value))


def _accepted(**params: Any) -> bool:
    try:
        return bool(World().run(**params)["tasks"])
    except EcsError as error:
        if error.code != "InvalidParameterException":
            raise
        return False


def test_an_inactive_definition_runs_nothing(world: World) -> None:
    # DeregisterTaskDefinition: you can't use an INACTIVE task definition to run new tasks.
    world.call("DeregisterTaskDefinition", taskDefinition="webordinary-edit:1")
    with refused("InvalidParameterException", "TaskDefinition is inactive"):
        world.run(taskDefinition="webordinary-edit:1")
    with refused("ClientException", "TaskDefinition not found."):
        world.run(taskDefinition="webordinary-edit")


def test_a_bare_family_is_its_newest_active_revision(world: World) -> None:
    # RunTask taskDefinition: if a revision isn't specified, the latest ACTIVE revision is used.
    for _ in range(2):
        world.call("RegisterTaskDefinition", **DEFINITION)
    world.call("DeregisterTaskDefinition", taskDefinition="webordinary-edit:3")
    assert world.task(world.start())["taskDefinitionArn"].endswith(":2")


def test_a_definition_for_instances_does_not_run_on_fargate(world: World) -> None:
    world.call("RegisterTaskDefinition", family="old", containerDefinitions=[{"name": "c", "image": "i"}])
    with refused("InvalidParameterException", "Task definition does not support launch_type FARGATE."):
        world.call("RunTask", cluster=CLUSTER, taskDefinition="old", launchType="FARGATE")
    with refused("InvalidParameterException", "Network Configuration is not valid for the given networkMode"):
        world.call("RunTask", cluster=CLUSTER, taskDefinition="old", launchType="FARGATE", networkConfiguration=VPC)


def test_spot_comes_by_a_strategy_that_the_cluster_has(world: World) -> None:
    # RunTask capacityProviderStrategy: a capacity provider must be associated with the cluster.
    request = {
        "taskDefinition": "webordinary-edit",
        "networkConfiguration": VPC,
        "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
    }
    with refused("InvalidParameterException", "not associated"):
        world.call("RunTask", cluster=CLUSTER, **request)
    world.call("CreateCluster", clusterName="spot", capacityProviders=["FARGATE", "FARGATE_SPOT"])
    [task] = world.call("RunTask", cluster="spot", **request)["tasks"]
    assert (task["launchType"], task["capacityProviderName"]) == ("FARGATE", "FARGATE_SPOT")


def test_a_cluster_can_have_a_default_strategy(world: World) -> None:
    # RunTask: if neither is specified, the defaultCapacityProviderStrategy of the cluster is used.
    strategy = [{"capacityProvider": "FARGATE", "weight": 1}]
    world.call(
        "CreateCluster", clusterName="d", capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=strategy
    )
    request = {"taskDefinition": "webordinary-edit", "networkConfiguration": VPC}
    assert world.call("RunTask", cluster="d", **request)["tasks"][0]["capacityProviderName"] == "FARGATE"
    with refused("InvalidParameterException", "No Container Instances"):
        world.call("RunTask", cluster=CLUSTER, **request)


def test_an_operation_that_is_not_there(world: World) -> None:
    with refused("UnknownOperationException", "CreateService"):
        world.call("CreateService", serviceName="s")
