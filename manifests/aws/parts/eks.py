"""The controller's role for a pod on EKS, by Pod Identity, and by IRSA where an issuer is named."""

from __future__ import annotations

from aws_cdk import CfnParameter
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from manifests.aws.parts.network import Network
from manifests.aws.parts.permissions import role, values
from manifests.aws.settings import Settings


class PodRole(Construct):
    """One role for one service account of one cluster, and the way from its pod to the agents."""

    def __init__(
        self, scope: Construct, name: str, settings: Settings, network: Network, managed: list[iam.IManagedPolicy]
    ) -> None:
        super().__init__(scope, name)
        cluster = _parameter(self, "EksCluster", "Name of the EKS cluster")
        namespace = _parameter(self, "Namespace", "Namespace of the controller", "editctl")
        account = _parameter(self, "ServiceAccount", "Service account of the controller", "editctl")
        pods = CfnParameter(
            self,
            "PodSecurityGroup",
            type="AWS::EC2::SecurityGroup::Id",
            description="Security group of the pods, or of the nodes where pods have none of their own",
        )
        pods.override_logical_id("PodSecurityGroup")
        known = values(settings) | {
            "EksCluster": cluster.value_as_string,
            "Namespace": namespace.value_as_string,
            "ServiceAccount": account.value_as_string,
            "OidcIssuer": settings.oidc_issuer,
        }
        trusts = ["pod-identity", *(["irsa"] if settings.oidc_issuer else [])]
        self.role = role(self, "Role", trusts, known)
        for policy in managed:
            self.role.add_managed_policy(policy)
        eks.CfnPodIdentityAssociation(
            self,
            "Association",
            cluster_name=cluster.value_as_string,
            namespace=namespace.value_as_string,
            service_account=account.value_as_string,
            role_arn=self.role.role_arn,
        )
        ec2.CfnSecurityGroupIngress(
            self,
            "Agents",
            group_id=network.edit.security_group_id,
            source_security_group_id=pods.value_as_string,
            ip_protocol="tcp",
            from_port=settings.agent_port,
            to_port=settings.agent_port,
            description="the controller's pod to the agents",
        )


def _parameter(scope: Construct, name: str, description: str, default: str | None = None) -> CfnParameter:
    made = CfnParameter(scope, name, type="String", description=description, default=default, min_length=1)
    made.override_logical_id(name)
    return made
