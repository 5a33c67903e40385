"""The local endpoint's hint queue: rows and tasks that change become messages, which say which container it was."""

from __future__ import annotations

import json
import threading

import boto3
import pytest
from moto.backends import get_backend

from controller.aws.hints import HintQueue, parse_hints
from controller.aws.schema import TableNames, create_tables
from controller.core.reads import Hint
from controller.errors import AwsError
from controller.local.ecs import Timings
from controller.local.pipes import Pipe
from controller.local.server import LocalEndpoint
from controller.local.services import MotoServices, new_account
from controller.local.wire import Reply, Request
from tests.simulation import DEFINITION

TOM = "acme-blog-tom"


@pytest.fixture
def endpoint():
    with LocalEndpoint(timings=Timings.fast(), pipe=Pipe("hints")) as served:
        yield served


@pytest.fixture
def client(endpoint):
    def make(service: str):
        return boto3.client(service, endpoint_url=endpoint.url, region_name="us-east-1")

    return make


def drained(queue: HintQueue, wanted: int) -> list[Hint]:
    found: list[Hint] = []
    for _ in range(20):
        hints = queue.receive()
        queue.delete([receipt for hint in hints for receipt in hint.receipts])
        found += [Hint(h.container_id, h.session_ids, h.task_arns) for h in hints]
        if len(found) >= wanted:
            break
    return found


def test_a_row_that_is_written_changed_and_deleted_is_hinted_at(endpoint, client):
    dynamodb = client("dynamodb")
    create_tables(dynamodb, TableNames(), "us-east-1", lambda _: None)
    names = TableNames()
    row = {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}}
    dynamodb.put_item(TableName=names.sessions, Item=row)
    dynamodb.put_item(TableName=names.controller, Item={"name": {"S": "lease"}})
    dynamodb.update_item(
        TableName=names.containers,
        Key={"containerId": {"S": TOM}},
        UpdateExpression="ADD sessionCount :n",
        ExpressionAttributeValues={":n": {"N": "1"}},
    )
    dynamodb.delete_item(TableName=names.sessions, Key={"sessionId": {"S": "s1"}})
    hints = drained(HintQueue(client("sqs"), endpoint.hint_queue_url), 3)
    by_session = Hint(TOM, session_ids=frozenset({"s1"}))
    assert hints.count(by_session) == 2
    assert Hint(TOM) in hints  # twice: moto makes a row and then changes it


def test_a_task_is_hinted_at_when_it_runs_and_when_it_has_stopped_though_nobody_asks_after_it(endpoint, client):
    ecs = client("ecs")
    ecs.create_cluster(clusterName="webordinary")
    ecs.register_task_definition(**DEFINITION)
    environment = [{"name": "CONTAINER_ID", "value": TOM}]
    started = ecs.run_task(
        cluster="webordinary",
        taskDefinition="webordinary-edit",
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        overrides={"containerOverrides": [{"name": "edit-container", "environment": environment}]},
    )
    arn = started["tasks"][0]["taskArn"]
    queue, sqs = HintQueue(client("sqs"), endpoint.hint_queue_url), client("sqs")
    assert drained(queue, 1) == [Hint(TOM, task_arns=frozenset({arn}))]
    ecs.stop_task(cluster="webordinary", task=arn)
    [message] = sqs.receive_message(QueueUrl=endpoint.hint_queue_url, WaitTimeSeconds=10)["Messages"]
    event = json.loads(message["Body"])
    assert (event["source"], event["detail"]["lastStatus"], event["detail"]["stopCode"]) == (
        "aws.ecs",
        "STOPPED",
        "UserInitiated",
    )
    assert isinstance(event["detail"]["stoppedAt"], str)
    assert parse_hints(message["Body"]) == (Hint(TOM, task_arns=frozenset({arn})),)
    endpoint.ecs.repeat_event(arn)
    [again] = sqs.receive_message(QueueUrl=endpoint.hint_queue_url, WaitTimeSeconds=10)["Messages"]
    assert json.loads(again["Body"])["detail"]["lastStatus"] == "STOPPED"
    assert parse_hints(again["Body"]) == parse_hints(message["Body"])


@pytest.mark.parametrize(("seconds", "times"), [(1, 2), (60, 1)])
def test_a_message_that_was_received_and_not_deleted_comes_again_in_time(seconds: int, times: int):
    with LocalEndpoint(pipe=Pipe("hints", comes_again_after=seconds)) as endpoint:
        sqs = boto3.client("sqs", endpoint_url=endpoint.url, region_name="us-east-1")
        url = endpoint.hint_queue_url
        endpoint.warm_up()
        sqs.send_message(QueueUrl=url, MessageBody="{}")
        received = [sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2).get("Messages", []) for _ in range(2)]
    assert sum(map(len, received)) == times


def test_who_waits_for_messages_waits_no_longer_than_there_is_a_queue(monkeypatch):
    account = new_account()
    services, looked, heard = MotoServices(account, pipe=Pipe("hints")), threading.Event(), []
    ask = services._ask

    def notice(request: Request) -> Reply:
        reply = ask(request)
        looked.set()
        return reply

    monkeypatch.setattr(services, "_ask", notice)
    waiting = threading.Thread(target=lambda: heard.append(services.answer(_receive(account))), daemon=True)
    waiting.start()
    assert looked.wait(10)
    services.close()
    waiting.join(5)
    assert [reply.status for reply in heard] == [200]
    # It has not looked again, either: that would make a queue that nobody takes down.
    assert account not in get_backend("sqs")


def _receive(account: str) -> Request:
    headers = {
        "authorization": "AWS4-HMAC-SHA256 Credential=none/20000101/us-east-1/sqs/aws4_request",
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": "AmazonSQS.ReceiveMessage",
    }
    content = {"QueueUrl": f"http://127.0.0.1/{account}/hints", "WaitTimeSeconds": 20}
    return Request("POST", "/", headers, json.dumps(content).encode())


def test_a_pipe_takes_only_what_it_is_told_to(client):
    takes = Pipe("few", lambda record: "wantedUntil" in record["dynamodb"].get("NewImage", {}))
    with LocalEndpoint(pipe=takes) as endpoint:
        dynamodb = boto3.client("dynamodb", endpoint_url=endpoint.url, region_name="us-east-1")
        create_tables(dynamodb, TableNames(), "us-east-1", lambda _: None)
        for until in (None, 5):
            more = {"wantedUntil": {"N": str(until)}} if until else {}
            dynamodb.put_item(TableName=TableNames().containers, Item={"containerId": {"S": f"a-b-{until}"}, **more})
        sqs = boto3.client("sqs", endpoint_url=endpoint.url, region_name="us-east-1")
        assert drained(HintQueue(sqs, endpoint.hint_queue_url or ""), 1) == [Hint("a-b-5")]


def test_what_is_no_hint_is_deleted_and_a_lost_queue_is_an_error_of_aws(endpoint, client):
    sqs, url = client("sqs"), endpoint.hint_queue_url
    client("dynamodb").list_tables()
    for body in ("nonsense", '{"dynamodb":{}}'):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    queue = HintQueue(sqs, url)
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"dynamodb": {"Keys": {"containerId": {"S": TOM}}}}))
    assert [h.container_id for h in drained(queue, 1)] == [TOM]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    waiting = [counts[f"ApproximateNumberOfMessages{kind}"] for kind in ("", "NotVisible")]
    assert waiting == ["0", "0"]
    sqs.delete_queue(QueueUrl=url)
    # Nobody who writes a row hears of it.
    create_tables(client("dynamodb"), TableNames(), "us-east-1", lambda _: None)
    client("dynamodb").put_item(
        TableName=TableNames().sessions, Item={"sessionId": {"S": "s"}, "containerId": {"S": TOM}}
    )
    with pytest.raises(AwsError, match="queue"):
        queue.receive()
