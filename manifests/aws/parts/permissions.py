"""Roles and managed policies, made of the very files in policies/ and trusts/."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from manifests.aws import policies
from manifests.aws.settings import Settings


def values(settings: Settings) -> dict[str, str]:
    """Return what the `${Name}`s of the files stand for here, but for what other parts make."""
    return {
        "Partition": Aws.PARTITION,
        "Region": Aws.REGION,
        "Account": Aws.ACCOUNT_ID,
        "Prefix": settings.prefix,
        "Cluster": settings.cluster,
        "ControllerId": settings.controller_id,
        "TaskFamily": settings.task_definition,
        "SessionsTable": settings.sessions_table,
        "ContainersTable": settings.containers_table,
        "ControllerTable": settings.controller_table,
        "SessionQueues": settings.session_queues,
        "HintQueue": settings.hint_queue,
        "Repositories": settings.repositories,
        "EditLogs": settings.edit_logs,
        "ControllerLogs": settings.controller_logs,
    }


def role(scope: Construct, name: str, trusts: list[str], known: Mapping[str, str], policy: str = "") -> iam.Role:
    """Return a role that exactly these trusts and this policy describe; the library adds nothing to it."""
    documents = [iam.PolicyDocument.from_json(policies.trust(trust, known)) for trust in trusts]
    made = iam.Role(
        scope,
        name,
        # Replaced below: a principal of the library's cannot carry all that a trust file says.
        assumed_by=iam.AccountRootPrincipal(),
        inline_policies={policy: iam.PolicyDocument.from_json(policies.policy(policy, known))} if policy else None,
    )
    resource = made.node.default_child
    assert isinstance(resource, iam.CfnRole)
    statements = [statement for document in documents for statement in document.to_json()["Statement"]]
    resource.assume_role_policy_document = {"Version": "2012-10-17", "Statement": statements}
    return made


def managed(scope: Construct, name: str, policy: str, known: Mapping[str, str], description: str) -> iam.ManagedPolicy:
    """Return a managed policy of one file, to be attached to roles that are made elsewhere."""
    return iam.ManagedPolicy(
        scope,
        name,
        description=description,
        document=iam.PolicyDocument.from_json(policies.policy(policy, known)),
    )


class Policies(Construct):
    """What controller, operators and session writers may do, wherever their roles come from."""

    def __init__(
        self, scope: Construct, name: str, settings: Settings, task_role: iam.IRole, execution_role: iam.IRole
    ) -> None:
        super().__init__(scope, name)
        known = values(settings) | {"TaskRoleArn": task_role.role_arn, "ExecutionRoleArn": execution_role.role_arn}
        self.controller = managed(self, "Controller", "controller", known, "editctl run and editctl apply")
        self.families = (
            managed(self, "Families", "controller-families", known, "beside it, with a family for each project")
            if settings.family_per_project
            else None
        )
        self.operator = managed(self, "Operator", "operator", known, "editctl plan, status and explain")
        self.operator_writes = managed(
            self, "OperatorWrites", "operator-writes", known, "beside it: editctl hold, pause and adopt"
        )
        self.session_writer = managed(self, "SessionWriter", "session-writer", known, "who opens sessions")

    @property
    def of_controller(self) -> list[iam.IManagedPolicy]:
        """What the controller's role needs."""
        return [policy for policy in (self.controller, self.families) if policy is not None]
