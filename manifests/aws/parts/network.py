"""Where tasks and controller are: a VPC of their own or one that is there, and who may talk to whom."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from manifests.aws.settings import Settings


class Network(Construct):
    """The VPC, the subnets of tasks, and two security groups: only the controller reaches an agent's port."""

    def __init__(self, scope: Construct, name: str, settings: Settings) -> None:
        super().__init__(scope, name)
        self.vpc = _existing(self, settings) if settings.vpc_id else _new(self, settings)
        self.subnets = self._subnets(settings)
        # No rule lets anybody in. Out goes everything: a coding agent fetches packages and pushes to git hosts that
        # only its users know.
        self.edit = ec2.SecurityGroup(
            self, "Edit", vpc=self.vpc, description="edit containers: nobody but the controller gets in"
        )
        self.controller = ec2.SecurityGroup(
            self,
            "Controller",
            vpc=self.vpc,
            description="the controller: AWS and the agents, nothing else",
            allow_all_outbound=False,
        )
        self.controller.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS")
        self.controller.connections.allow_to(self.edit, ec2.Port.tcp(settings.agent_port), "the agents")

    @property
    def subnet_ids(self) -> list[str]:
        """What `EDITCTL_SUBNETS` is to be."""
        return [subnet.subnet_id for subnet in self.subnets]

    @property
    def selection(self) -> ec2.SubnetSelection:
        """The same subnets, for a service."""
        return ec2.SubnetSelection(subnets=self.subnets)

    def _subnets(self, settings: Settings) -> list[ec2.ISubnet]:
        if settings.vpc_id:
            numbered = enumerate(settings.subnets, 1)
            return [ec2.Subnet.from_subnet_id(self, f"Subnet{n}", subnet) for n, subnet in numbered]
        return list(self.vpc.public_subnets if settings.nat_gateways == 0 else self.vpc.private_subnets)


def _existing(scope: Construct, settings: Settings) -> ec2.IVpc:
    # Only the id is used; the zones are asked for by the library and reach no template.
    return ec2.Vpc.from_vpc_attributes(scope, "Vpc", vpc_id=settings.vpc_id, availability_zones=["unknown"])


def _new(scope: Construct, settings: Settings) -> ec2.IVpc:
    groups = [ec2.SubnetConfiguration(name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=20)]
    if settings.nat_gateways:
        groups.append(
            ec2.SubnetConfiguration(name="tasks", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20)
        )
    vpc = ec2.Vpc(scope, "Vpc", max_azs=2, nat_gateways=settings.nat_gateways, subnet_configuration=groups)
    # Free, and keeps the controller's reads off the NAT gateway.
    vpc.add_gateway_endpoint("DynamoDb", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
    return vpc
