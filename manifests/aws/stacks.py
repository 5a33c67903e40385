"""The five stacks: which part goes where, and what each prints.

What a stack prints under the name of a setting (`Cluster` for EDITCTL_CLUSTER) is what `editctl config --from-stack`
reads; docs/deploy.md has the table. The same values are the environment of the controller's service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import App, Aws, BootstraplessSynthesizer, CfnOutput, CfnParameter, Fn, Stack
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from manifests.aws.parts.alarms import Alarms
from manifests.aws.parts.edit_container import Cluster, EditContainer
from manifests.aws.parts.eks import PodRole
from manifests.aws.parts.hints import Hints
from manifests.aws.parts.network import Network
from manifests.aws.parts.permissions import Policies
from manifests.aws.parts.service import Service
from manifests.aws.parts.tables import Tables
from manifests.aws.settings import Settings


@dataclass(frozen=True)
class Runtime:
    """What the runtime stack made, for those that come after it."""

    network: Network
    policies: Policies
    secret: secretsmanager.Secret


def build(app: App, settings: Settings) -> dict[str, Stack]:
    """Make all stacks that the settings ask for; return them by their short names."""
    made = {}
    tables = None
    if not settings.existing_tables:
        made["data"] = _stack(app, settings, "data", "the three tables")
        tables = Tables(made["data"], "Tables", settings)
        _print(made["data"], table_names(settings))
    made["runtime"] = _stack(app, settings, "runtime", "cluster, task definition, network, roles")
    runtime = _runtime(made["runtime"], settings)
    streams = _streams(settings, tables)
    if streams:
        made["hints"] = _stack(app, settings, "hints", "the queue that wakes the controller")
        hints = Hints(made["hints"], "Hints", settings, *streams)
        _print(made["hints"], {"HintQueueUrl": hints.queue.queue_url})
    made["controller"] = _stack(app, settings, "controller", "the controller as an ECS service")
    _controller(made["controller"], settings, runtime, with_hints=bool(streams))
    made["eks"] = _stack(app, settings, "eks", "the controller's role for a pod on EKS")
    pod = PodRole(made["eks"], "Pod", settings, runtime.network, runtime.policies.of_controller)
    _print(made["eks"], {"ControllerRoleArn": pod.role.role_arn})
    return made


def _runtime(stack: Stack, settings: Settings) -> Runtime:
    network = Network(stack, "Network", settings)
    Cluster(stack, "Cluster", settings)
    image = _image(stack, "EditImage", "Image of the edit containers")
    edit = EditContainer(stack, "EditContainer", settings, image, network.edit)
    policies = Policies(stack, "Policies", settings, edit.task_role, edit.execution_role)
    secret = secretsmanager.Secret(
        stack,
        "ChannelSecret",
        description="what the tokens of the control channel are made of",
        generate_secret_string=secretsmanager.SecretStringGenerator(password_length=64, exclude_punctuation=True),
    )
    _print(stack, runtime_settings(settings, network))
    _print(
        stack,
        {
            "ChannelSecretArn": secret.secret_arn,
            "ControllerPolicyArn": policies.controller.managed_policy_arn,
            "ControllerSecurityGroup": network.controller.security_group_id,
            "EditLogGroup": edit.logs.log_group_name,
            "OperatorPolicyArn": policies.operator.managed_policy_arn,
            "OperatorWritesPolicyArn": policies.operator_writes.managed_policy_arn,
            "SessionWriterPolicyArn": policies.session_writer.managed_policy_arn,
        },
    )
    return Runtime(network, policies, secret)


def _controller(stack: Stack, settings: Settings, runtime: Runtime, *, with_hints: bool) -> None:
    environment = {variable(name): value for name, value in runtime_settings(settings, runtime.network).items()}
    if with_hints:
        # Composed, not imported: the hints may come later, or be taken away again.
        environment["EDITCTL_HINT_QUEUE_URL"] = (
            f"https://sqs.{Aws.REGION}.{Aws.URL_SUFFIX}/{Aws.ACCOUNT_ID}/{settings.hint_queue}"
        )
    image = _image(stack, "ControllerImage", "Image of the controller")
    service = Service(
        stack,
        "Controller",
        settings,
        runtime.network,
        runtime.secret,
        list(runtime.policies.of_controller),
        environment,
        image,
    )
    alarms = Alarms(stack, "Alarms", settings, service.logs)
    if with_hints:
        alarms.hints(f"{settings.hint_queue}-dead", settings.hint_queue)
    _print(stack, {"ControllerLogGroup": service.logs.log_group_name})


def _streams(settings: Settings, tables: Tables | None) -> tuple[str, str] | None:
    """Return the stream ARNs of sessions and containers, or None where existing tables come without them."""
    if tables is not None:
        return str(tables.sessions.table_stream_arn), str(tables.containers.table_stream_arn)
    if settings.sessions_stream and settings.containers_stream:
        return settings.sessions_stream, settings.containers_stream
    return None


def table_names(settings: Settings) -> dict[str, str]:
    """Return the tables' names by what they are printed as."""
    return {
        "SessionsTable": settings.sessions_table,
        "ContainersTable": settings.containers_table,
        "ControllerTable": settings.controller_table,
    }


def runtime_settings(settings: Settings, network: Network) -> dict[str, str]:
    """Return what a controller and `editctl plan` have to be told, by what it is printed as."""
    return table_names(settings) | {
        "Cluster": settings.cluster,
        "ControllerId": settings.controller_id,
        "TaskDefinition": settings.task_definition,
        "ContainerName": settings.container_name,
        "FamilyPerProject": str(settings.family_per_project).lower(),
        "Subnets": Fn.join(",", network.subnet_ids),
        "SecurityGroups": network.edit.security_group_id,
        "AssignPublicIp": settings.assign_public_ip,
        "AgentPort": str(settings.agent_port),
    }


def variable(printed: str) -> str:
    """`TaskDefinition` is EDITCTL_TASK_DEFINITION."""
    return "EDITCTL" + "".join(f"_{c}" if c.isupper() else c.upper() for c in printed)


def _stack(app: App, settings: Settings, name: str, description: str) -> Stack:
    # Without a bootstrap and without assets, so that the templates can be deployed by the AWS CLI alone.
    return Stack(
        app,
        f"{settings.prefix}-{name}",
        description=f"editctl: {description}",
        synthesizer=BootstraplessSynthesizer(),
        termination_protection=name == "data",
        analytics_reporting=False,
    )


def _image(scope: Construct, name: str, description: str) -> CfnParameter:
    made = CfnParameter(scope, name, type="String", description=f"{description}, with a tag or a digest", min_length=1)
    made.override_logical_id(name)
    return made


def _print(stack: Stack, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        CfnOutput(stack, f"Print{name}", value=value).override_logical_id(name)
