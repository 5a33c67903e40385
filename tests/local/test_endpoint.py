"""The endpoint as an unmodified AWS SDK sees it: the wire, the errors, and that it starts, ends and stands alone."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from controller.errors import PortInUse
from controller.local.server import HEALTH_PATH, LocalEndpoint
from tests.fakes.clock import FakeClock
from tests.local.world import CLUSTER, DEFINITION, DOWN, REQUEST, TIMINGS, UP, environment, tags

ONE_TRY = Config(retries={"total_max_attempts": 1})
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260302/eu-west-1/ecs/aws4_request, SignedHeaders=host",
    "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListClusters",
}


@pytest.fixture(scope="module")
def clients() -> Callable[..., Any]:
    """Return a maker of SDK clients for an endpoint."""
    session = boto3.Session()

    def client(service: str, endpoint: LocalEndpoint, config: Config = ONE_TRY) -> Any:
        return session.client(service, endpoint_url=endpoint.url, config=config)

    return client


@pytest.fixture
def endpoint(clock: FakeClock) -> Iterator[LocalEndpoint]:
    """Return an endpoint with a cluster and a task definition."""
    with LocalEndpoint(clock=clock, timings=TIMINGS) as started:
        started.ecs.call("CreateCluster", {"clusterName": CLUSTER})
        started.ecs.call("RegisterTaskDefinition", DEFINITION)
        yield started


@pytest.fixture
def ecs(endpoint: LocalEndpoint, clients: Callable[..., Any]) -> Any:
    """Return an SDK client that tries once."""
    return clients("ecs", endpoint)


def raw(endpoint: LocalEndpoint, method: str, path: str, body: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of a hand-made request."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=5)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


# ECS: AWS JSON 1.1 protocol (smithy.io, "AWS JSON 1.1 protocol")


def test_a_task_from_start_to_end(ecs: Any, clock: FakeClock) -> None:
    [task] = ecs.run_task(**REQUEST, startedBy="editctl/default", tags=tags(Key="Größe"))["tasks"]
    arn = task["taskArn"]
    assert (task["lastStatus"], task["tags"]) == ("PROVISIONING", tags(Key="Größe"))
    assert task["createdAt"].timestamp() == clock.now() / 1000
    clock.step(seconds=UP, ms=1)
    assert ecs.list_tasks(cluster=CLUSTER, startedBy="editctl/default")["taskArns"] == [arn]
    [task] = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn], include=["TAGS"])["tasks"]
    assert (task["lastStatus"], task["tags"]) == ("RUNNING", tags(Key="Größe"))
    assert ecs.stop_task(cluster=CLUSTER, task=arn, reason="idle")["task"]["desiredStatus"] == "STOPPED"
    clock.step(seconds=DOWN)
    [task] = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"]
    assert (task["lastStatus"], task["stoppedReason"]) == ("STOPPED", "idle")
    assert (task["stoppedAt"] - task["createdAt"]).total_seconds() == UP + DOWN + 0.001
    assert task["containers"][0]["exitCode"] == 0


def test_the_waiters_and_paginators_of_the_sdk_work(ecs: Any, clock: FakeClock) -> None:
    for _ in range(12):
        ecs.run_task(**REQUEST, count=10)
    clock.step(seconds=UP)
    pages = list(ecs.get_paginator("list_tasks").paginate(cluster=CLUSTER))
    arns = [arn for page in pages for arn in page["taskArns"]]
    assert [len(page["taskArns"]) for page in pages] == [100, 20]
    ecs.get_waiter("tasks_running").wait(cluster=CLUSTER, tasks=arns[:100], WaiterConfig={"MaxAttempts": 1})


def test_clusters_and_definitions(ecs: Any) -> None:
    ecs.create_cluster(clusterName="other", tags=tags(a="1"))
    assert len(ecs.list_clusters()["clusterArns"]) == 2
    [cluster] = ecs.describe_clusters(clusters=["other"], include=["TAGS"])["clusters"]
    assert (cluster["clusterName"], cluster["status"], cluster["tags"]) == ("other", "ACTIVE", tags(a="1"))
    ecs.tag_resource(resourceArn=cluster["clusterArn"], tags=tags(b="2"))
    ecs.untag_resource(resourceArn=cluster["clusterArn"], tagKeys=["a"])
    assert ecs.list_tags_for_resource(resourceArn=cluster["clusterArn"])["tags"] == tags(b="2")
    assert ecs.register_task_definition(**DEFINITION)["taskDefinition"]["revision"] == 2
    ecs.deregister_task_definition(taskDefinition="webordinary-edit:1")
    assert ecs.describe_task_definition(taskDefinition="webordinary-edit")["taskDefinition"]["revision"] == 2
    assert len(ecs.list_task_definitions(status="INACTIVE")["taskDefinitionArns"]) == 1
    assert ecs.delete_cluster(cluster="other")["cluster"]["status"] == "INACTIVE"


def test_errors_are_the_sdks_own(ecs: Any) -> None:
    with pytest.raises(ecs.exceptions.ClusterNotFoundException) as caught:
        ecs.list_tasks(cluster="nobody")
    assert caught.value.response["Error"] == {"Message": "Cluster not found.", "Code": "ClusterNotFoundException"}
    [task] = ecs.run_task(**REQUEST, clientToken="t")["tasks"]
    with pytest.raises(ecs.exceptions.ConflictException) as conflict:
        ecs.run_task(**REQUEST, clientToken="t", startedBy="other")
    assert conflict.value.response["resourceIds"] == [task["taskArn"]]


@pytest.mark.parametrize(
    ("code", "status"), [("ThrottlingException", 400), ("ServerException", 500), ("ServiceUnavailable", 503)]
)
def test_faults_arrive_with_code_and_status(endpoint: LocalEndpoint, ecs: Any, code: str, status: int) -> None:
    endpoint.ecs.faults.fail("ListTasks", code)
    with pytest.raises(ClientError) as caught:
        ecs.list_tasks(cluster=CLUSTER)
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


def test_the_sdk_repeats_a_lost_run_task_and_gets_the_same_task(
    endpoint: LocalEndpoint, clients: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # RunTask clientToken is an idempotency token that the SDK fills in.
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    endpoint.ecs.faults.lose_reply("RunTask", times=2)
    ecs = clients("ecs", endpoint, Config(retries={"mode": "standard", "total_max_attempts": 3}))
    [task] = ecs.run_task(**REQUEST, overrides=environment(A="1"))["tasks"]
    assert endpoint.ecs.calls["RunTask"] == 3
    assert [known["taskArn"] for known in endpoint.ecs.snapshot()] == [task["taskArn"]]


def test_replies_have_a_date_and_a_request_id(ecs: Any, clock: FakeClock) -> None:
    # General Reference "Common response headers"; the date is that of the injected clock.
    first, second = (ecs.list_clusters()["ResponseMetadata"] for _ in range(2))
    assert first["HTTPHeaders"]["date"] == "Mon, 02 Mar 2026 10:00:00 GMT"
    assert first["RequestId"] != second["RequestId"]


def test_what_is_not_a_signed_request_for_a_known_operation_is_refused(endpoint: LocalEndpoint) -> None:
    def code(body: str = "{}", **headers: str) -> tuple[int, str]:
        given = {name: value for name, value in {**SIGNED, **headers}.items() if value}
        status, answer = raw(endpoint, "POST", "/", body, **given)
        return status, answer.get("__type", "")

    assert code() == (200, "")
    assert code(Authorization="") == (403, "MissingAuthenticationTokenException")
    assert code("no JSON") == (400, "SerializationException")
    assert code("[]") == (400, "SerializationException")
    assert code(**{"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.CreateService"}) == (
        400,
        "UnknownOperationException",
    )
    assert code(**{"X-Amz-Target": ""}) == (400, "UnknownOperationException")
    assert raw(endpoint, "GET", "/")[0] == 403


def test_a_fault_of_the_endpoint_itself_is_told_and_logged(
    endpoint: LocalEndpoint, ecs: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoint.ecs, "call", lambda operation, params: 1 / 0)
    with pytest.raises(ClientError, match="ZeroDivisionError"):
        ecs.list_clusters()
    assert "ListClusters failed" in caplog.text


@pytest.mark.usefixtures("close_race")
def test_16_threads_with_one_token_get_one_task(endpoint: LocalEndpoint, ecs: Any) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ecs.run_task(**REQUEST, clientToken="t"), range(64)))
    assert len({answer["tasks"][0]["taskArn"] for answer in answers}) == 1
    assert len(endpoint.ecs.snapshot()) == 1


# The endpoint


def test_health_says_versions_and_tasks(endpoint: LocalEndpoint, ecs: Any, clock: FakeClock) -> None:
    ecs.run_task(**REQUEST)
    clock.step(seconds=UP)
    ecs.run_task(**REQUEST, count=2)
    status, health = raw(endpoint, "GET", HEALTH_PATH)
    assert status == 200
    assert health["tasks"] == {"PROVISIONING": 2, "RUNNING": 1}
    assert set(health["versions"]) == {"moto", "python"}


def test_one_port_has_one_endpoint(endpoint: LocalEndpoint) -> None:
    with pytest.raises(PortInUse) as caught:
        LocalEndpoint(endpoint.port)
    what, why, todo = caught.value.lines()
    assert str(endpoint.port) in what
    assert "another program" in why
    assert "another port" in todo


def test_a_port_can_be_chosen_and_is_free_afterwards(clock: FakeClock) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        with LocalEndpoint(port, clock) as chosen:
            assert chosen.url == f"http://127.0.0.1:{port}"


def test_close_drops_connections_that_clients_keep(ecs: Any, endpoint: LocalEndpoint) -> None:
    ecs.list_clusters()
    endpoint.close()
    with pytest.raises(EndpointConnectionError):
        ecs.list_clusters()
    endpoint.close()


def test_an_endpoint_that_never_answered_can_be_closed(clock: FakeClock) -> None:
    LocalEndpoint(clock=clock).close()


def test_serve_forever_ends_when_another_thread_closes(clock: FakeClock) -> None:
    endpoint = LocalEndpoint(clock=clock)
    server = threading.Thread(target=endpoint.serve_forever)
    server.start()
    assert raw(endpoint, "GET", HEALTH_PATH)[0] == 200
    endpoint.close()
    server.join(5)
    assert not server.is_alive()


def test_requests_are_told_to_whoever_wants_to_know(
    clock: FakeClock, clients: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    with LocalEndpoint(clock=clock, on_request=lines.append) as endpoint:
        clients("ecs", endpoint).list_clusters()
        raw(endpoint, "GET", HEALTH_PATH)
        clients("sts", endpoint).get_caller_identity()
    assert lines == ["POST ecs ListClusters 200", f"GET unsigned {HEALTH_PATH} 200", "POST sts / 200"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("service", "ask"),
    [
        ("logs", lambda client: client.describe_log_groups()),
        ("iam", lambda client: client.list_users()),
        ("ec2", lambda client: client.describe_subnets()),
    ],
)
def test_a_service_that_is_not_here_is_named(
    endpoint: LocalEndpoint, clients: Callable[..., Any], service: str, ask: Callable[[Any], Any]
) -> None:
    with pytest.raises(ClientError, match=f"no {service}; it has dynamodb, ecs, sqs, sts") as caught:
        ask(clients(service, endpoint))
    assert caught.value.response["Error"]["Code"] == "UnsupportedService"


def test_it_starts_quickly_and_without_what_it_does_not_need() -> None:
    program = """
import sys, time
began = time.perf_counter()
from controller.local.server import LocalEndpoint
with LocalEndpoint() as endpoint:
    seconds = time.perf_counter() - began
print(seconds, sorted({"boto3", "botocore", "flask", "moto", "werkzeug"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=15)
    seconds, loaded = ran.stdout.split(" ", 1)
    assert float(seconds) < 3
    assert loaded.strip() == "[]"


def test_it_needs_neither_credentials_nor_the_profile_of_the_user(tmp_path: Path) -> None:
    program = """
import http.client
from controller.local.server import LocalEndpoint
with LocalEndpoint() as endpoint:
    for service, target, body in (
        ("dynamodb", "DynamoDB_20120810.ListTables", "{}"),
        ("sqs", "AmazonSQS.ListQueues", "{}"),
        ("sts", "", "Action=GetCallerIdentity&Version=2011-06-15"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port)
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential=any/20260302/eu-west-1/{service}/aws4_request"}
        headers |= {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0"} if target else {}
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        connection.request("POST", "/", body, headers)
        reply = connection.getresponse()
        print(service, reply.status, reply.read()[:200])
        connection.close()
"""
    environment = {"AWS_PROFILE": "nobody", "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=15, env=environment
    )
    assert [line.split()[:2] for line in ran.stdout.splitlines()] == [
        ["dynamodb", "200"],
        ["sqs", "200"],
        ["sts", "200"],
    ], ran.stdout + ran.stderr
    assert ran.stderr == ""


# DynamoDB, DynamoDB Streams, SQS and STS


@pytest.fixture
def dynamodb(endpoint: LocalEndpoint, clients: Callable[..., Any]) -> Any:
    """Return a client for an endpoint with a table of two items, `counter` and `other`, both 0."""
    client = clients("dynamodb", endpoint)
    client.create_table(
        TableName="counters",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    for key in ("counter", "other"):
        client.put_item(TableName="counters", Item={"k": {"S": key}, "n": {"N": "0"}})
    return client


def counter(dynamodb: Any, key: str = "counter") -> int:
    """Return the number in an item, read strongly."""
    item = dynamodb.get_item(TableName="counters", Key={"k": {"S": key}}, ConsistentRead=True)["Item"]
    return int(item["n"]["N"])


def raised(key: str, seen: int) -> dict[str, Any]:
    """Return an update that adds one if the number is as seen."""
    return {
        "TableName": "counters",
        "Key": {"k": {"S": key}},
        "UpdateExpression": "SET n = :next",
        "ConditionExpression": "n = :seen",
        "ExpressionAttributeValues": {":seen": {"N": str(seen)}, ":next": {"N": str(seen + 1)}},
    }


@pytest.mark.usefixtures("close_race")
def test_compare_and_set_is_exact_when_16_threads_race(dynamodb: Any) -> None:
    # Amazon DynamoDB Developer Guide, "Optimistic locking with version number".
    def tries(_: int) -> int:
        won = 0
        for _ in range(5):
            try:
                dynamodb.update_item(**raised("counter", counter(dynamodb)))
                won += 1
            except dynamodb.exceptions.ConditionalCheckFailedException:
                pass
        return won

    with ThreadPoolExecutor(16) as pool:
        won = sum(pool.map(tries, range(16)))
    assert 0 < won < 80
    assert counter(dynamodb) == won


@pytest.mark.usefixtures("close_race")
def test_transactions_are_exact_when_16_threads_race(dynamodb: Any) -> None:
    # Amazon DynamoDB Developer Guide, "Managing complex workflows with transactions".
    def tries(_: int) -> int:
        seen = counter(dynamodb)
        try:
            dynamodb.transact_write_items(
                TransactItems=[{"Update": raised("counter", seen)}, {"Update": raised("other", seen)}]
            )
        except dynamodb.exceptions.TransactionCanceledException:
            return 0
        return 1

    with ThreadPoolExecutor(16) as pool:
        won = sum(pool.map(tries, range(48)))
    assert 0 < won <= 48
    assert (counter(dynamodb), counter(dynamodb, "other")) == (won, won)


def test_streams_show_what_was_written(dynamodb: Any, endpoint: LocalEndpoint, clients: Callable[..., Any]) -> None:
    streams = clients("dynamodbstreams", endpoint)
    [stream] = streams.list_streams(TableName="counters")["Streams"]
    [shard] = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream["StreamArn"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = streams.get_records(ShardIterator=iterator)["Records"]
    assert [record["dynamodb"]["Keys"]["k"]["S"] for record in records] == ["counter", "other"]


def test_who_waits_for_a_message_keeps_nobody_else_waiting(
    dynamodb: Any, endpoint: LocalEndpoint, clients: Callable[..., Any]
) -> None:
    # Amazon SQS Developer Guide, "Short and long polling".
    sqs = clients("sqs", endpoint)
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    assert queue.startswith(f"{endpoint.url}/{endpoint.account}/")
    asked = threading.Event()
    sqs.meta.events.register("before-send.sqs.ReceiveMessage", lambda **_: asked.set())
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        assert asked.wait(5)
        assert counter(dynamodb) == 0
        sqs.send_message(QueueUrl=queue, MessageBody="hint")
        assert waiting.result(10)["Messages"][0]["Body"] == "hint"
    assert time.monotonic() - began < 10
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    with pytest.raises(ClientError, match="WaitTimeSeconds"):
        sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=21)


def test_the_caller_is_of_the_account_of_the_tasks(endpoint: LocalEndpoint, clients: Callable[..., Any]) -> None:
    account = clients("sts", endpoint).get_caller_identity()["Account"]
    [arn] = clients("ecs", endpoint).list_clusters()["clusterArns"]
    assert account == endpoint.account == arn.split(":")[4]


def test_each_endpoint_begins_empty_and_leaves_the_others_alone(
    dynamodb: Any, endpoint: LocalEndpoint, clients: Callable[..., Any]
) -> None:
    with LocalEndpoint() as second:
        second.warm_up()
        assert clients("dynamodb", second).list_tables()["TableNames"] == []
        assert clients("ecs", second).list_clusters()["clusterArns"] == []
    assert dynamodb.list_tables()["TableNames"] == ["counters"]


def test_closing_drops_the_data(dynamodb: Any, endpoint: LocalEndpoint) -> None:
    from moto.backends import get_backend

    assert endpoint.account in get_backend("dynamodb")
    endpoint.close()
    assert endpoint.account not in get_backend("dynamodb")


def test_a_client_that_goes_away_is_no_news(endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
    assert raw(endpoint, "GET", HEALTH_PATH)[0] == 200
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_half_a_request_is_none(endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that is killed while it sends must not leave half of what it wanted."""
    seen: list[str] = []
    endpoint._on_request = seen.append
    head = "\r\n".join(f"{name}: {value}" for name, value in SIGNED.items())
    with socket.create_connection(("127.0.0.1", endpoint.port)) as caller:
        caller.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{head}\r\nContent-Length: 100\r\n\r\n{{".encode())
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(100) == b"", "the connection is dropped without an answer"
    assert seen == []
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_an_interrupt_before_it_serves_does_not_keep_it_from_closing(monkeypatch):
    endpoint = LocalEndpoint()

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(endpoint._server, "serve_forever", interrupted)
    with pytest.raises(KeyboardInterrupt):
        endpoint.serve_forever()
    endpoint.close()
