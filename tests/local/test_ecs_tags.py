"""Tags of tasks: AmazonECS APIReference TagResource, UntagResource, ListTagsForResource, and StopTask on their end."""

from __future__ import annotations

import pytest

from tests.local.world import CLUSTER, DEFINITION, DOWN, World, refused, tags


def tagged(world: World, arn: str) -> list[dict[str, str]]:
    """Return what ListTagsForResource says."""
    answer: list[dict[str, str]] = world.call("ListTagsForResource", resourceArn=arn)["tags"]
    return answer


def test_stop_task_deletes_the_tags_at_once(world: World) -> None:
    # StopTask: any tags associated with the task will be deleted.
    arn = world.started(tags=tags(Key="value"))
    assert world.stop(arn)["tags"] == []
    assert world.task(arn)["tags"] == tagged(world, arn) == []


def test_stop_task_can_delete_the_tags_when_the_task_is_stopped(world: World) -> None:
    world.ecs.quirks.tags_until_stopped = True
    arn = world.started(tags=tags(Key="value"))
    world.stop(arn)
    world.clock.step(seconds=DOWN - 0.001)
    assert world.task(arn)["tags"] == tags(Key="value")
    world.clock.step(ms=1)
    assert world.task(arn)["tags"] == []


def test_a_task_that_ends_by_itself_keeps_its_tags(world: World) -> None:
    # Only StopTask is documented to delete them.
    arn = world.started(tags=tags(Key="value"))
    world.ecs.exit_task(arn, 0)
    world.clock.step(seconds=DOWN)
    assert world.task(arn)["tags"] == tags(Key="value")


def test_tags_are_deleted_whoever_calls_stop_task_but_not_by_spot(world: World) -> None:
    user, spot = world.started(tags=tags(Key="value")), world.started(tags=tags(Key="value"))
    world.ecs.stop_by_hand(user)
    world.ecs.stop_by_hand(spot, "Your Spot Task was interrupted.", "SpotInterruption")
    assert (world.task(user)["tags"], world.task(spot)["tags"]) == ([], tags(Key="value"))


def test_tags_that_are_read_late_are_those_of_then(world: World) -> None:
    # APIReference RunTask: the API follows an eventual consistency model.
    arn = world.started(tags=tags(Key="old"))
    world.ecs.quirks.describe_lag_ms = 1000
    world.call("TagResource", resourceArn=arn, tags=tags(Key="new"))
    assert world.task(arn)["tags"] == tags(Key="old")
    world.clock.step(seconds=1)
    assert world.task(arn)["tags"] == tags(Key="new")


def test_tags_are_added_changed_and_removed(world: World) -> None:
    arn = world.start(tags=tags(a="1", b="2"))
    world.call("TagResource", resourceArn=arn, tags=tags(b="3", c="4"))
    assert tagged(world, arn) == world.task(arn)["tags"] == tags(a="1", b="3", c="4")
    world.call("UntagResource", resourceArn=arn, tagKeys=["a", "nobody"])
    assert tagged(world, arn) == tags(b="3", c="4")


def test_50_tags_are_the_limit_over_all_calls(world: World) -> None:
    # Tag: maximum number of tags per resource, 50.
    arn = world.start(tags=tags(**{f"k{n}": "" for n in range(49)}))
    world.call("TagResource", resourceArn=arn, tags=tags(k0="changed", k49=""))
    with refused("InvalidParameterException", "50"):
        world.call("TagResource", resourceArn=arn, tags=tags(k50=""))
    assert len(tagged(world, arn)) == 50


def test_managed_tags_do_not_count(world: World) -> None:
    # RunTask tags: tags with the prefix aws: do not count against the limit.
    arn = world.start(tags=tags(**{f"k{n}": "" for n in range(49)}), enableECSManagedTags=True)
    world.call("TagResource", resourceArn=arn, tags=tags(k49=""))
    assert len(tagged(world, arn)) == 51


@pytest.mark.parametrize("operation", ["TagResource", "UntagResource"])
def test_a_task_that_is_being_stopped_cannot_be_tagged(world: World, operation: str) -> None:
    arn = world.started()
    world.stop(arn)
    params = {"tags": tags(a="1")} if operation == "TagResource" else {"tagKeys": ["a"]}
    with refused("InvalidParameterException", "The specified task is stopped. Specify a running task and try again."):
        world.call(operation, resourceArn=arn, **params)


@pytest.mark.parametrize(
    ("arn", "code"),
    [
        (f"arn:aws:ecs:us-east-1:123456789012:task/{CLUSTER}/{'0' * 32}", "InvalidParameterException"),
        (f"arn:aws:ecs:us-east-1:123456789012:task/nobody/{'0' * 32}", "ClusterNotFoundException"),
        ("arn:aws:ecs:us-east-1:123456789012:service/x", "InvalidParameterException"),
        ("arn:aws:ecs:us-east-1:123456789012:task-definition/nobody:1", "ClientException"),
        ("nonsense", "InvalidParameterException"),
    ],
)
def test_what_cannot_be_tagged(world: World, arn: str, code: str) -> None:
    with refused(code):
        world.call("TagResource", resourceArn=arn, tags=tags(a="1"))


def test_wrong_tags_leave_the_old_ones(world: World) -> None:
    arn = world.start(tags=tags(a="1"))
    for wrong in ([{"key": "a#"}], [{"key": "aws:a"}], [{"key": "b"}, {"key": "b"}]):
        with refused("InvalidParameterException"):
            world.call("TagResource", resourceArn=arn, tags=wrong)
    assert tagged(world, arn) == tags(a="1")


def test_clusters_and_definitions_have_tags_too(world: World) -> None:
    cluster = world.call("DescribeClusters", clusters=[CLUSTER])["clusters"][0]["clusterArn"]
    definition = world.call("ListTaskDefinitions")["taskDefinitionArns"][0]
    for arn in (cluster, definition):
        world.call("TagResource", resourceArn=arn, tags=tags(a="1"))
        assert tagged(world, arn) == tags(a="1")
    described = world.call("DescribeTaskDefinition", taskDefinition=definition, include=["TAGS"])
    assert described["tags"] == tags(a="1")
    assert world.call("DescribeTaskDefinition", taskDefinition=definition)["tags"] == []


def test_tags_of_the_definition_and_of_ecs_can_come_along(world: World) -> None:
    # RunTask propagateTags and enableECSManagedTags; managed tags do not count against the 50.
    world.call("RegisterTaskDefinition", **DEFINITION, tags=tags(a="definition", b="definition"))
    arn = world.start(
        tags=tags(b="request", **{f"k{n}": "" for n in range(48)}),
        propagateTags="TASK_DEFINITION",
        enableECSManagedTags=True,
    )
    shown = {tag["key"]: tag["value"] for tag in world.task(arn)["tags"]}
    assert (shown["a"], shown["b"], shown["aws:ecs:clusterName"]) == ("definition", "request", CLUSTER)
    assert len(shown) == 51


def test_tags_of_the_definition_stay_behind_if_not_asked_for(world: World) -> None:
    world.call("RegisterTaskDefinition", **DEFINITION, tags=tags(a="definition"))
    assert world.task(world.start())["tags"] == []


def test_a_forbidden_tag_starts_no_task(world: World) -> None:
    # Developer Guide "Tagging your Amazon ECS resources": if tags cannot be applied, the creation is rolled back.
    with refused("InvalidParameterException"):
        world.run(tags=[{"key": "a#b"}])
    assert world.listed() == []
