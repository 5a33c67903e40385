"""The three tables: what sessions are open, what the controller wrote down, and its own notes."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from manifests.aws.settings import Settings


class Tables(Construct):
    """Makes the tables. They outlive their stack: the record of what was saved is in them."""

    def __init__(self, scope: Construct, name: str, settings: Settings) -> None:
        super().__init__(scope, name)
        self.sessions = self._table("Sessions", settings.sessions_table, "sessionId", stream=True)
        self.sessions.add_global_secondary_index(
            index_name="container-index",
            partition_key=_text("containerId"),
            projection_type=dynamodb.ProjectionType.ALL,
        )
        self.containers = self._table("Containers", settings.containers_table, "containerId", stream=True)
        self.controller = self._table("Controller", settings.controller_table, "name", stream=False)

    def _table(self, name: str, table_name: str, key: str, *, stream: bool) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            name,
            table_name=table_name,
            partition_key=_text(key),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            # Both images, so that a row that moved to another container gives a hint for each of the two.
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES if stream else None,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=True,
            removal_policy=RemovalPolicy.RETAIN,
        )


def _text(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)
