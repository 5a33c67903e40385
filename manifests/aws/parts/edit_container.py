"""What runs for a user: cluster, log group, roles and the task definition that launches pin a revision of."""

from __future__ import annotations

from aws_cdk import Aws, CfnParameter, Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_logs as logs
from constructs import Construct

from manifests.aws.parts.permissions import role, values
from manifests.aws.settings import Settings

STOP_TIMEOUT = Duration.seconds(120)
"""The most that Fargate allows: the save on SIGTERM has to end within 0.7 of it."""


class EditContainer(Construct):
    """The family that edit containers are launched from. Who they are for is in tags and overrides, never in here."""

    def __init__(
        self, scope: Construct, name: str, settings: Settings, image: CfnParameter, edit: ec2.ISecurityGroup
    ) -> None:
        super().__init__(scope, name)
        known = values(settings)
        self.logs = logs.LogGroup(
            self,
            "Logs",
            log_group_name=settings.edit_logs,
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.task_role = role(self, "TaskRole", ["tasks"], known, "edit-container")
        self.execution_role = role(self, "ExecutionRole", ["tasks"], known, "edit-execution")
        definition = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=settings.task_definition,
            cpu=1024,
            memory_limit_mib=2048,
            task_role=self.task_role.without_policy_updates(),
            execution_role=self.execution_role.without_policy_updates(),
        )
        definition.add_container(
            settings.container_name,
            image=ecs.ContainerImage.from_registry(image.value_as_string),
            stop_timeout=STOP_TIMEOUT,
            environment={"EDIT_AGENT_PORT": str(settings.agent_port), "EDIT_STOP_TIMEOUT": "120s"},
            port_mappings=[ecs.PortMapping(container_port=settings.agent_port)],
            logging=ecs.LogDrivers.aws_logs(stream_prefix="edit", log_group=self.logs),
        )


class Cluster(Construct):
    """The cluster, made or taken as it is; only its name is used."""

    def __init__(self, scope: Construct, name: str, settings: Settings) -> None:
        super().__init__(scope, name)
        if not settings.existing_cluster:
            ecs.CfnCluster(self, "Cluster", cluster_name=settings.cluster)


def cluster_arn(settings: Settings) -> str:
    """Return the cluster's ARN."""
    return f"arn:{Aws.PARTITION}:ecs:{Aws.REGION}:{Aws.ACCOUNT_ID}:cluster/{settings.cluster}"
