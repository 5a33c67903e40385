"""Clusters and task definitions: their AmazonECS APIReference pages; Developer Guide, "Fargate task size"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local.world import CLUSTER, CONTAINER, DEFINITION, UP, World, refused

PREFIX = "arn:aws:ecs:us-east-1:123456789012"


def changed(**params: Any) -> dict[str, Any]:
    """Return the usual definition with some parameters changed; None leaves one out."""
    return {name: value for name, value in {**DEFINITION, **params}.items() if value is not None}


def container(**members: Any) -> list[dict[str, Any]]:
    """Return a list of one container definition."""
    return [{"name": CONTAINER, "image": "edit:1", **members}]


def test_revisions_count_up_and_are_never_used_again(world: World) -> None:
    # RegisterTaskDefinition, revision.
    world.call("DeregisterTaskDefinition", taskDefinition="webordinary-edit:1")
    answer = world.call("RegisterTaskDefinition", **DEFINITION)
    assert answer["taskDefinition"]["revision"] == 2
    assert answer["taskDefinition"]["taskDefinitionArn"] == f"{PREFIX}:task-definition/webordinary-edit:2"


def test_a_definition_is_shown_with_what_was_given_and_the_defaults(world: World) -> None:
    world.call("RegisterTaskDefinition", **changed(cpu="1 vCPU", memory="2 GB", taskRoleArn="arn:aws:iam::1:role/r"))
    shown = world.call("DescribeTaskDefinition", taskDefinition="webordinary-edit")["taskDefinition"]
    assert (shown["cpu"], shown["memory"], shown["taskRoleArn"]) == ("1024", "2048", "arn:aws:iam::1:role/r")
    assert (shown["status"], shown["networkMode"], shown["compatibilities"]) == ("ACTIVE", "awsvpc", ["EC2", "FARGATE"])
    assert shown["containerDefinitions"][0]["essential"] is True
    assert shown["registeredAt"] == world.clock.now() / 1000


@pytest.mark.parametrize(
    "params",
    [
        changed(family="no spaces"),
        changed(family="f" * 256),
        changed(containerDefinitions=[]),
        changed(containerDefinitions=container(image="")),
        changed(containerDefinitions=container(name="no spaces")),
        changed(containerDefinitions=container() * 2),
        changed(containerDefinitions=container(essential=False)),
        changed(containerDefinitions=container(stopTimeout=121)),
        changed(containerDefinitions=container(stopTimeout=1)),
        changed(containerDefinitions=["c"]),
        changed(networkMode=None),
        changed(cpu=None),
        changed(memory=None),
        changed(cpu="1000"),
        changed(cpu="256", memory="4096"),
        changed(memory="2 MB"),
    ],
)
def test_a_definition_that_is_refused(world: World, params: dict[str, Any]) -> None:
    with refused("ClientException"):
        world.call("RegisterTaskDefinition", **params)
    assert len(world.call("ListTaskDefinitions")["taskDefinitionArns"]) == 1


@pytest.mark.parametrize(
    ("cpu", "memory", "allowed"),
    [
        ("256", "512", True),
        ("256", "1024", True),
        ("256", "2048", True),
        ("256", "1536", False),
        ("512", "4096", True),
        ("512", "5120", False),
        ("1024", "2048", True),
        ("1024", "1024", False),
        ("4096", "30720", True),
        ("4096", "31744", False),
        ("8192", "20480", True),
        ("8192", "18432", False),
        ("16384", "122880", True),
        ("128", "512", False),
    ],
)
def test_fargate_has_certain_sizes(world: World, cpu: str, memory: str, allowed: bool) -> None:
    if allowed:
        world.call("RegisterTaskDefinition", **changed(cpu=cpu, memory=memory))
    else:
        with refused("ClientException", "No Fargate configuration exists for given values."):
            world.call("RegisterTaskDefinition", **changed(cpu=cpu, memory=memory))


def test_a_required_parameter(world: World) -> None:
    with refused("InvalidParameterException", "Family cannot be empty."):
        world.call("RegisterTaskDefinition", **changed(family=None))


@pytest.mark.parametrize(
    "name", ["nobody", "webordinary-edit:2", "webordinary-edit:0", f"{PREFIX}:task-definition/x:1"]
)
def test_a_definition_that_is_not_there(world: World, name: str) -> None:
    with refused("ClientException", "Unable to describe task definition."):
        world.call("DescribeTaskDefinition", taskDefinition=name)


def test_a_definition_is_deregistered_by_revision(world: World) -> None:
    # DeregisterTaskDefinition: you must specify a revision; it stays visible as INACTIVE.
    for name in ("webordinary-edit", "webordinary-edit:x", "webordinary-edit:9"):
        with refused("ClientException"):
            world.call("DeregisterTaskDefinition", taskDefinition=name)
    arn = world.started()
    answer = world.call("DeregisterTaskDefinition", taskDefinition="webordinary-edit:1")
    assert answer["taskDefinition"]["status"] == "INACTIVE"
    shown = world.call("DescribeTaskDefinition", taskDefinition="webordinary-edit:1")["taskDefinition"]
    assert shown["status"] == "INACTIVE"
    with refused("ClientException"):
        world.call("DescribeTaskDefinition", taskDefinition="webordinary-edit")
    assert world.task(arn)["lastStatus"] == "RUNNING"


def test_definitions_are_listed_by_family_status_and_order(world: World) -> None:
    # ListTaskDefinitions: familyPrefix is the full family name.
    for family in ("b", "a", "ab"):
        world.call("RegisterTaskDefinition", **changed(family=family))
    world.call("RegisterTaskDefinition", **changed(family="a"))
    world.call("DeregisterTaskDefinition", taskDefinition="a:1")

    def listed(**params: Any) -> list[str]:
        arns: list[str] = world.call("ListTaskDefinitions", **params)["taskDefinitionArns"]
        return [arn.rpartition("/")[2] for arn in arns]

    assert listed() == ["a:2", "ab:1", "b:1", "webordinary-edit:1"]
    assert listed(sort="DESC") == ["webordinary-edit:1", "b:1", "ab:1", "a:2"]
    assert listed(familyPrefix="a") == ["a:2"]
    assert listed(familyPrefix="a", status="INACTIVE") == ["a:1"]
    page = world.call("ListTaskDefinitions", maxResults=3)
    rest = world.call("ListTaskDefinitions", maxResults=3, nextToken=page["nextToken"])
    assert (len(page["taskDefinitionArns"]), len(rest["taskDefinitionArns"])) == (3, 1)
    assert "nextToken" not in rest


def test_a_cluster_is_made_once(world: World) -> None:
    first = world.call("CreateCluster", clusterName="x")["cluster"]
    assert world.call("CreateCluster", clusterName="x")["cluster"] == first
    assert first["clusterArn"] == f"{PREFIX}:cluster/x"
    assert world.call("ListClusters")["clusterArns"] == [f"{PREFIX}:cluster/{CLUSTER}", f"{PREFIX}:cluster/x"]


def test_without_a_name_it_is_the_default_cluster(world: World) -> None:
    # CreateCluster clusterName: a cluster that's named default.
    assert world.call("CreateCluster")["cluster"]["clusterName"] == "default"
    assert world.call("DescribeClusters")["clusters"][0]["clusterName"] == "default"
    assert world.call("ListTasks") == {"taskArns": []}


@pytest.mark.parametrize(
    "reference",
    ["web", "webordinary2", "cluster/webordinary", "arn:aws:ecs:us-east-1:999999999999:cluster/webordinary"],
)
def test_a_cluster_is_found_by_its_name_and_arn_alone(world: World, reference: str) -> None:
    with refused("ClusterNotFoundException", "Cluster not found."):
        world.call("ListTasks", cluster=reference)


@pytest.mark.parametrize(
    "params",
    [
        {"clusterName": "no spaces"},
        {"clusterName": "c" * 256},
        {"capacityProviders": ["mine"]},
        {"defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
    ],
)
def test_a_cluster_that_is_refused(world: World, params: dict[str, Any]) -> None:
    with refused("InvalidParameterException"):
        world.call("CreateCluster", **params)


def test_clusters_are_described_and_missing_ones_named(world: World) -> None:
    world.start()
    world.clock.step(seconds=UP)
    world.start()
    answer = world.call("DescribeClusters", clusters=[CLUSTER, "nobody"])
    [cluster] = answer["clusters"]
    assert (cluster["status"], cluster["runningTasksCount"], cluster["pendingTasksCount"]) == ("ACTIVE", 1, 1)
    assert answer["failures"] == [{"arn": f"{PREFIX}:cluster/nobody", "reason": "MISSING"}]
    with refused("InvalidParameterException"):
        world.call("DescribeClusters", clusters=[f"c{n}" for n in range(101)])


def test_a_cluster_with_tasks_cannot_be_deleted_and_a_deleted_one_is_inactive(world: World) -> None:
    # DeleteCluster: ClusterContainsTasksException; the cluster transitions to INACTIVE.
    arn = world.started()
    with refused("ClusterContainsTasksException"):
        world.call("DeleteCluster", cluster=CLUSTER)
    world.stopped(arn)
    assert world.call("DeleteCluster", cluster=CLUSTER)["cluster"]["status"] == "INACTIVE"
    for operation in ("ListTasks", "DeleteCluster"):
        with refused("ClusterNotFoundException", "The referenced cluster was inactive."):
            world.call(operation, cluster=CLUSTER)
    assert world.call("DescribeClusters", clusters=[CLUSTER])["clusters"][0]["status"] == "INACTIVE"
    assert world.call("ListClusters")["clusterArns"] == []


def test_a_cluster_that_is_made_again_begins_empty(world: World) -> None:
    # DescribeTasks: tasks of a deleted cluster are not those of a new one with the same name.
    arn = world.stopped(world.started(clientToken="t"))
    world.call("DeleteCluster", cluster=CLUSTER)
    world.call("CreateCluster", clusterName=CLUSTER)
    assert world.missing(arn)
    assert world.start(clientToken="t") != arn
    world.clock.step(hours=2)
    assert len(world.listed()) == 1
