"""The endpoint as the `aws` command line sees it, if that is installed; test_endpoint.py has the same for the SDK."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from controller.local.server import LocalEndpoint
from tests.fakes.clock import FakeClock
from tests.local.world import CLUSTER, DEFINITION, REQUEST, TIMINGS, UP, tags

AWS = shutil.which("aws")

pytestmark = [
    pytest.mark.skipif(AWS is None, reason="there is no `aws` command here"),
    # A command takes a second or two to start.
    pytest.mark.timeout(60),
]


@pytest.fixture
def endpoint(clock: FakeClock) -> Iterator[LocalEndpoint]:
    """Return an endpoint with a cluster."""
    with LocalEndpoint(clock=clock, timings=TIMINGS) as started:
        started.ecs.call("CreateCluster", {"clusterName": CLUSTER})
        yield started


def aws(endpoint: LocalEndpoint, *command: str, **request: Any) -> subprocess.CompletedProcess[str]:
    """Run `aws ecs …` against an endpoint; `request` becomes its JSON input."""
    json_input = ["--cli-input-json", json.dumps(request)] if request else []
    return subprocess.run(
        [str(AWS), "--endpoint-url", endpoint.url, "--output", "json", "ecs", *command, *json_input],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "AWS_MAX_ATTEMPTS": "1"},
    )


def answer(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what a command that worked printed."""
    assert ran.returncode == 0, ran.stderr
    printed: dict[str, Any] = json.loads(ran.stdout)
    return printed


def test_a_task_from_start_to_end(endpoint: LocalEndpoint, clock: FakeClock) -> None:
    with ThreadPoolExecutor(2) as pool:
        registered = pool.submit(aws, endpoint, "register-task-definition", **DEFINITION)
        described = pool.submit(aws, endpoint, "describe-clusters", "--clusters", CLUSTER)
        lost = pool.submit(aws, endpoint, "list-tasks", "--cluster", "nobody")
    assert answer(registered.result())["taskDefinition"]["revision"] == 1
    [cluster] = answer(described.result())["clusters"]
    assert cluster["clusterName"] == CLUSTER
    assert lost.result().returncode != 0
    assert "(ClusterNotFoundException) when calling the ListTasks operation: Cluster not found." in lost.result().stderr

    ran = answer(aws(endpoint, "run-task", **REQUEST, startedBy="me", tags=tags(Key="value")))
    arn = ran["tasks"][0]["taskArn"]
    clock.step(seconds=UP)
    with ThreadPoolExecutor(2) as pool:
        listed = pool.submit(aws, endpoint, "list-tasks", "--cluster", CLUSTER, "--started-by", "me")
        shown = pool.submit(aws, endpoint, "describe-tasks", "--cluster", CLUSTER, "--tasks", arn, "--include", "TAGS")
    assert answer(listed.result())["taskArns"] == [arn]
    [task] = answer(shown.result())["tasks"]
    assert (task["lastStatus"], task["tags"]) == ("RUNNING", tags(Key="value"))

    stopped = answer(aws(endpoint, "stop-task", "--cluster", CLUSTER, "--task", arn, "--reason", "idle"))["task"]
    assert (stopped["desiredStatus"], stopped["stoppedReason"]) == ("STOPPED", "idle")
