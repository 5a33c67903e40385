"""The depth of a session's input queue: anything in it is somebody's word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from controller.aws.client import ClientSettings, client_config
from controller.aws.hints import Queues
from controller.errors import AccessDenied, EndpointError


@pytest.fixture
def sqs() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("sqs", region_name="eu-west-1", config=client_config(ClientSettings()))


def test_what_waits_is_in_flight_or_delayed_counts(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="s1-input")["QueueUrl"]
    queues = Queues(sqs)
    assert queues.depth(url) == 0

    for delay in (0, 0, 60):
        sqs.send_message(QueueUrl=url, MessageBody="hello", DelaySeconds=delay)
    sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)

    assert queues.depth(url) == 3


@pytest.mark.parametrize("url", ["", "s1-input", "arn:aws:sqs:eu-west-1:123456789012:s1-input", "file:///etc/passwd"])
def test_no_url_is_no_queue_and_asks_nobody(url: str) -> None:
    client: Any = None

    assert Queues(client).depth(url) == 0


def test_a_queue_that_is_not_there(sqs: Any) -> None:
    assert Queues(sqs).depth("https://sqs.eu-west-1.amazonaws.com/123456789012/gone") == 0


class Answers:
    """An SQS that answers so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_queue_attributes(self, **parameters: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    receive_message = delete_message_batch = get_queue_attributes


@pytest.mark.parametrize("code", ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"])
def test_a_queue_that_is_not_there_by_either_name_of_the_error(code: str) -> None:
    gone = ClientError({"Error": {"Code": code}}, "GetQueueAttributes")

    assert Queues(Answers(gone)).depth("https://sqs/q") == 0


def test_another_error_leaves_it_unclear() -> None:
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetQueueAttributes")

    with pytest.raises(AccessDenied) as refused:
        Queues(Answers(denied)).depth("https://sqs.eu-west-1.amazonaws.com/1/q?x=secret")

    assert refused.value.what == "GetQueueAttributes on queue 'https://sqs.eu-west-1.amazonaws.com/1/q' is not allowed"


def test_an_answer_of_somebody_else_is_no_empty_queue() -> None:
    with pytest.raises(EndpointError):
        Queues(Answers({})).depth("https://sqs/q")
