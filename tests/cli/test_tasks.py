"""`editctl adopt` and `logs`."""

from __future__ import annotations

import json

import pytest

from controller.core.identity import ContainerIdentity, tags_for
from tests.cli.lab import Account, Lab
from tests.cli.schema import problems
from tests.simulation import DEFINITION

TOM = ContainerIdentity("acme", "blog", "tom")


def tags(lab: Lab, arn: str) -> dict[str, str]:
    [task] = [t for t in lab.simulation.tasks() if t["taskArn"] == arn]
    return {t["key"]: t["value"] for t in task["tags"]}


# adopt


def test_a_task_without_marks_is_shown_and_marked(lab: Lab) -> None:
    arn = lab.simulation.launch(TOM, tags={}, started_by="somebody")
    lab.open("s1", "acme", "blog", "tom")
    assert f"Foreign  no start: task {arn.rpartition('/')[2][:6]} carries this id" in lab.editctl("plan").stdout
    done = lab.editctl("adopt", arn)
    assert done.exit_code == 0, done.output
    assert "container  acme-blog-tom" in done.stdout
    assert "mark       none" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["Marked as ours (controller default).", "Next: editctl plan"]
    assert tags(lab, arn) == tags_for(TOM, "default")
    assert "TaskNotRecorded" in lab.editctl("plan").stdout


def test_it_can_be_repeated(lab: Lab) -> None:
    arn = lab.simulation.launch(TOM)
    writes = lab.simulation.writes()
    done = lab.editctl("adopt", arn)
    assert done.exit_code == 0
    assert "It is marked as ours already (controller default)." in done.stdout
    assert lab.simulation.writes() == writes


def test_another_controllers_mark_is_replaced_only_by_its_name(lab: Lab) -> None:
    arn = lab.simulation.launch(TOM, tags=tags_for(TOM, "staging"), started_by="editctl/staging")
    for args in ((), ("--from", "prod")):
        done = lab.editctl("adopt", arn, *args)
        assert done.exit_code == 1
        assert "error: the task carries the mark of controller 'staging'" in done.stderr
        assert "--from staging" in done.stderr
        assert tags(lab, arn) == tags_for(TOM, "staging")
    assert lab.editctl("adopt", arn, "--from", "staging").exit_code == 0
    assert tags(lab, arn) == tags_for(TOM, "default")


def test_what_has_no_owner_or_has_stopped_cannot_be_adopted(lab: Lab) -> None:
    nobody = lab.simulation.launch(TOM, tags={}, environment=False)
    done = lab.editctl("adopt", nobody)
    assert (done.exit_code, "names no client, project and user" in done.stderr) == (1, True)
    stopped = lab.simulation.launch(TOM)
    lab.simulation.ecs.call("StopTask", {"cluster": "webordinary", "task": stopped})
    done = lab.editctl("adopt", stopped)
    assert (done.exit_code, "cannot be marked" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arn", "said"),
    [
        ("0a1b2c", "is no task of cluster 'webordinary'"),
        ("arn:aws:ecs:eu-west-1:123456789012:task/other/0a1b2c", "it is of cluster 'other'"),
        (f"arn:aws:ecs:eu-west-1:123456789012:task/webordinary/{'0' * 32}", "in cluster 'webordinary'"),
    ],
)
def test_what_is_no_task_here(lab: Lab, arn: str, said: str) -> None:
    done = lab.editctl("adopt", arn)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 3


# logs


def with_logs(lab: Lab, **log: object) -> None:
    container = {"name": "edit-container", "image": "edit", "essential": True, "logConfiguration": log}
    lab.simulation.ecs.call("RegisterTaskDefinition", {**DEFINITION, "containerDefinitions": [container]})


def test_group_stream_and_command(lab: Lab) -> None:
    options = {"awslogs-group": "/edit", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "acme-blog"}
    with_logs(lab, logDriver="awslogs", options=options)
    lab.running("s1", "acme", "blog", "tom")
    [task] = lab.simulation.live()
    stream = f"acme-blog/edit-container/{task['taskArn'].rpartition('/')[2]}"
    done = lab.editctl("logs", "acme-blog-tom")
    assert done.exit_code == 0, done.output
    assert "  group   /edit\n" in done.stdout
    assert f"  stream  {stream}\n" in done.stdout
    command = f"aws logs tail /edit --log-stream-names {stream} --region eu-west-1 --follow"
    assert done.stdout.splitlines()[-1] == f"To follow it: {command}"
    document = json.loads(lab.editctl("logs", "acme-blog-tom", "--json").stdout)
    assert problems(document, "logs") == []
    assert [s["command"] for s in document["streams"]] == [command]


def test_other_drivers_are_named(lab: Lab) -> None:
    with_logs(lab, logDriver="fluentd")
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("logs", "acme-blog-tom")
    assert (done.exit_code, "by the driver 'fluentd', not in CloudWatch" in done.stdout) == (0, True)
    assert "aws logs" not in done.stdout
    assert problems(json.loads(lab.editctl("logs", "acme-blog-tom", "--json").stdout), "logs") == []


def test_no_task_and_no_container(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    done = lab.editctl("logs", "acme-blog-tom")
    assert (done.exit_code, done.stdout.startswith("ECS lists no task of acme-blog-tom")) == (0, True)
    done = lab.editctl("logs", "acme-blog-tim")
    assert (done.exit_code, "did you mean acme-blog-tom?" in done.stderr) == (1, True)


def test_through_boto3(ready: Account) -> None:
    arn = ready.launch(TOM, controller="staging")
    ready.clock.step(seconds=5)
    assert ready.editctl("adopt", arn).exit_code == 1
    assert ready.editctl("adopt", arn, "--from", "staging").exit_code == 0
    done = ready.editctl("logs", "acme-blog-tom")
    assert (done.exit_code, "its definition names no log driver" in done.stdout) == (0, True), done.output
