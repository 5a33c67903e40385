"""The controller as an ECS service, for those without EKS."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import CfnParameter, RemovalPolicy
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from manifests.aws.parts.network import Network
from manifests.aws.parts.permissions import role, values
from manifests.aws.settings import Settings

METRICS = "127.0.0.1:9464"
_ALIVE = f"import urllib.request as u; u.urlopen('http://{METRICS}/livez', timeout=3)"


class Service(Construct):
    """One controller. A second one would do no harm, and no good either."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        settings: Settings,
        network: Network,
        secret: secretsmanager.ISecret,
        managed: list[iam.IManagedPolicy],
        environment: Mapping[str, str],
        image: CfnParameter,
    ) -> None:
        super().__init__(scope, name)
        known = values(settings) | {"ChannelSecretArn": secret.secret_arn}
        self.logs = logs.LogGroup(
            self,
            "Logs",
            log_group_name=settings.controller_logs,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        task_role = role(self, "TaskRole", ["tasks"], known)
        for policy in managed:
            task_role.add_managed_policy(policy)
        execution_role = role(self, "ExecutionRole", ["tasks"], known, "controller-execution")
        definition = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=f"{settings.prefix}-controller",
            cpu=256,
            memory_limit_mib=512,
            task_role=task_role.without_policy_updates(),
            execution_role=execution_role.without_policy_updates(),
        )
        definition.add_container(
            "controller",
            image=ecs.ContainerImage.from_registry(image.value_as_string),
            command=["run", "--log-format", "json"],
            environment={**environment, "EDITCTL_METRICS_ADDRESS": METRICS},
            secrets={"EDITCTL_CHANNEL_SECRET": ecs.Secret.from_secrets_manager(secret)},
            user="65532:65532",
            readonly_root_filesystem=True,
            logging=ecs.LogDrivers.aws_logs(stream_prefix="controller", log_group=self.logs),
            health_check=ecs.HealthCheck(command=["CMD", "python3", "-c", _ALIVE]),
        )
        ecs.FargateService(
            self,
            "Service",
            cluster=ecs.Cluster.from_cluster_attributes(
                self, "Cluster", cluster_name=settings.cluster, vpc=network.vpc, security_groups=[]
            ),
            task_definition=definition,
            service_name=f"{settings.prefix}-controller",
            desired_count=1,
            # The old one goes before the new one comes: two would take turns at the lease for nothing.
            min_healthy_percent=0,
            max_healthy_percent=100,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            vpc_subnets=network.selection,
            security_groups=[network.controller],
            assign_public_ip=settings.assign_public_ip == "ENABLED",
        )
