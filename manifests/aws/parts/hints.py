"""What wakes the controller early: rows that change and tasks that change, in one queue.

A message says "look at this one again" and nothing more. It may be lost, doubled, late or out of order.
"""

from __future__ import annotations

import json

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_pipes as pipes
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from manifests.aws.parts.edit_container import cluster_arn
from manifests.aws.parts.permissions import role, values
from manifests.aws.settings import Settings

WISHES = {"dynamodb": {"NewImage": {"wantedUntil": {"N": [{"exists": True}]}}}}
"""Of the containers table: only rows in which somebody asks for a container. The rest is the controller's own hand."""

OLDEST_HINT = 300
"""Seconds. What is older is found by the next poll or resync in any case."""


class Hints(Construct):
    """The queue with its dead-letter queue, a pipe from each stream, and the rule for task events."""

    def __init__(
        self, scope: Construct, name: str, settings: Settings, sessions_stream: str, containers_stream: str
    ) -> None:
        super().__init__(scope, name)
        self.dead = sqs.Queue(
            self,
            "Dead",
            queue_name=f"{settings.hint_queue}-dead",
            retention_period=Duration.days(14),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=settings.hint_queue,
            # A round that takes longer than this sees the hint twice, which does no harm.
            visibility_timeout=Duration.seconds(60),
            retention_period=Duration.hours(1),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead, max_receive_count=5),
        )
        pipe_role = role(self, "PipeRole", ["pipes"], values(settings), "hints-pipe")
        self._pipe("Sessions", f"{settings.prefix}-sessions", pipe_role, sessions_stream)
        self._pipe("Wishes", f"{settings.prefix}-wishes", pipe_role, containers_stream, json.dumps(WISHES))
        events.Rule(
            self,
            "Tasks",
            description="an edit task runs or has stopped",
            event_pattern=events.EventPattern(
                source=["aws.ecs"],
                detail_type=["ECS Task State Change"],
                detail={"clusterArn": [cluster_arn(settings)], "lastStatus": ["RUNNING", "STOPPED"]},
            ),
            targets=[targets.SqsQueue(self.queue, max_event_age=Duration.seconds(OLDEST_HINT), retry_attempts=3)],
        )

    def _pipe(self, name: str, pipe_name: str, pipe_role: iam.Role, stream: str, pattern: str = "") -> None:
        pipes.CfnPipe(
            self,
            name,
            name=pipe_name,
            role_arn=pipe_role.role_arn,
            source=stream,
            target=self.queue.queue_arn,
            source_parameters=pipes.CfnPipe.PipeSourceParametersProperty(
                dynamo_db_stream_parameters=pipes.CfnPipe.PipeSourceDynamoDBStreamParametersProperty(
                    starting_position="LATEST",
                    batch_size=10,
                    maximum_record_age_in_seconds=OLDEST_HINT,
                    maximum_retry_attempts=3,
                ),
                filter_criteria=pipes.CfnPipe.FilterCriteriaProperty(
                    filters=[pipes.CfnPipe.FilterProperty(pattern=pattern)]
                )
                if pattern
                else None,
            ),
        )
