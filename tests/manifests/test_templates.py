"""What the checked-in templates say, against the files and the code that they have to agree with."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any

import pytest

from controller import telemetry
from controller.aws.schema import TableNames, schemas
from controller.config import settings
from controller.core.model import Reason
from controller.errors import AwsError
from manifests.aws import policies
from tests.manifests.evaluator import like
from tests.manifests.permissions import VALUES
from tests.manifests.templates import Template, names, template, text

INLINE_LIMIT = 51_200
"""Bytes of a template that is sent with the call and not put into a bucket first (CloudFormation quotas)."""

# What the stacks print beside settings: for roles, for people, for the other stacks.
NO_SETTINGS = {
    "ChannelSecretArn",
    "ControllerLogGroup",
    "ControllerPolicyArn",
    "ControllerRoleArn",
    "ControllerSecurityGroup",
    "EditLogGroup",
    "OperatorPolicyArn",
    "OperatorWritesPolicyArn",
    "SessionWriterPolicyArn",
}


def test_every_stack_has_its_templates():
    assert names() == [
        "existing/controller",
        "existing/eks",
        "existing/hints",
        "existing/runtime",
        "new/controller",
        "new/data",
        "new/eks",
        "new/hints",
        "new/runtime",
    ]


@pytest.mark.parametrize("name", names())
def test_a_template_can_be_deployed_by_the_aws_cli_alone(name):
    assert len(text(name).encode()) <= INLINE_LIMIT
    assert "cdk-bootstrap" not in text(name)
    assert "AssetParameters" not in text(name)
    assert not template(name).of("CDK::Metadata")


# Data


def test_the_tables_are_those_that_tables_create_makes():
    found = {r["Properties"]["TableName"]: r["Properties"] for r in template("new/data").of("DynamoDB::Table").values()}
    for wanted in schemas(TableNames()):
        request, made = wanted.request(), found.pop(wanted.name)
        assert made["KeySchema"] == request["KeySchema"]
        assert made["BillingMode"] == request["BillingMode"] == "PAY_PER_REQUEST"
        assert _by_name(made["AttributeDefinitions"]) == _by_name(request["AttributeDefinitions"])
        assert made.get("GlobalSecondaryIndexes", []) == request.get("GlobalSecondaryIndexes", [])
        view = {"StreamViewType": made["StreamSpecification"]["StreamViewType"]} if wanted.stream else {}
        assert view.get("StreamViewType") == request.get("StreamSpecification", {}).get("StreamViewType")
    assert found == {}


def _by_name(definitions: list[dict[str, str]]) -> dict[str, str]:
    return {d["AttributeName"]: d["AttributeType"] for d in definitions}


def test_the_sessions_index_and_streams_are_the_original_ones():
    sessions = template("new/data").one("DynamoDB::Table", "TablesSessions")
    (index,) = sessions["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "container-index"
    assert index["Projection"] == {"ProjectionType": "ALL"}
    assert sessions["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


@pytest.mark.parametrize("name", ["TablesSessions", "TablesContainers", "TablesController"])
def test_a_table_is_hard_to_lose(name):
    (found,) = [r for key, r in template("new/data").of("DynamoDB::Table").items() if key.startswith(name)]
    assert found["DeletionPolicy"] == found["UpdateReplacePolicy"] == "Retain"
    assert found["Properties"]["DeletionProtectionEnabled"] is True
    assert found["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_existing_tables_are_left_alone():
    for name in names():
        if name.startswith("existing/"):
            assert not template(name).of("DynamoDB::Table")


# Runtime


@pytest.mark.parametrize("name", ["new/runtime", "existing/runtime"])
def test_the_task_definition_is_the_family_that_launches_use(name):
    definition = template(name).one("ECS::TaskDefinition")
    defaults = {s.name: s.default for s in settings()}
    assert definition["Family"] == defaults["task_definition"] == "webordinary-edit"
    assert (definition["Cpu"], definition["Memory"], definition["NetworkMode"]) == ("1024", "2048", "awsvpc")
    assert definition["RequiresCompatibilities"] == ["FARGATE"]
    (container,) = definition["ContainerDefinitions"]
    assert container["Name"] == defaults["container_name"]
    assert container["StopTimeout"] == 120
    assert container["Image"] == "<EditImage>"
    log = container["LogConfiguration"]
    assert log["LogDriver"] == "awslogs"
    assert log["Options"]["awslogs-stream-prefix"]
    assert log["Options"]["awslogs-group"] == f"<{template(name).id_of('Logs::LogGroup')}>"
    assert "Secrets" not in container


def test_a_definition_says_nothing_of_a_user():
    assert not any(word in text("new/runtime") for word in ("CLIENT_ID", "USER_ID", "PROJECT_ID", "CONTAINER_ID"))


def test_the_cluster_is_made_or_taken_as_it_is():
    assert template("new/runtime").one("ECS::Cluster")["ClusterName"] == "webordinary"
    assert not template("existing/runtime").of("ECS::Cluster")


def test_an_existing_network_is_used():
    existing = template("existing/runtime")
    assert not existing.of("EC2::VPC")
    assert existing.outputs["Subnets"] == "subnet-0000000a,subnet-0000000b"
    assert {g["Properties"]["VpcId"] for g in existing.of("EC2::SecurityGroup").values()} == {"vpc-00000000"}


@pytest.mark.parametrize("name", ["new/runtime", "existing/runtime"])
def test_only_the_controller_reaches_an_agent(name):
    found = template(name)
    edit, controller = (found.id_of("EC2::SecurityGroup", begins) for begins in ("NetworkEdit", "NetworkController"))
    assert "SecurityGroupIngress" not in found.resources[edit]["Properties"]
    assert "SecurityGroupIngress" not in found.resources[controller]["Properties"]
    (ingress,) = [r["Properties"] for r in found.of("EC2::SecurityGroupIngress").values()]
    assert ingress["GroupId"] == f"<{edit}.GroupId>"
    assert ingress["SourceSecurityGroupId"] == f"<{controller}.GroupId>"
    assert (ingress["FromPort"], ingress["ToPort"]) == (8642, 8642)
    (outside,) = found.resources[controller]["Properties"]["SecurityGroupEgress"]
    assert (outside["FromPort"], outside["ToPort"]) == (443, 443)
    (agents,) = [r["Properties"] for r in found.of("EC2::SecurityGroupEgress").values()]
    assert (agents["GroupId"], agents["DestinationSecurityGroupId"]) == (f"<{controller}.GroupId>", f"<{edit}.GroupId>")


def test_the_channel_secret_is_drawn_by_aws():
    secret = template("new/runtime").one("SecretsManager::Secret")
    assert secret["GenerateSecretString"] == {"PasswordLength": 64, "ExcludePunctuation": True}
    assert "SecretString" not in secret


# Permissions: the very files


def _filled(found: Template) -> dict[str, str]:
    """Return the values of the tests, with what this template refers to by name."""
    known = dict(VALUES)
    if found.of("IAM::ManagedPolicy"):
        roles = {kind: found.id_of("IAM::Role", f"EditContainer{kind}Role") for kind in ("Task", "Execution")}
        known |= {f"{kind}RoleArn": f"<{role}.Arn>" for kind, role in roles.items()}
    return known


@pytest.mark.parametrize(
    ("name", "resource", "policy"),
    [
        ("new/runtime", "PoliciesController", "controller"),
        ("new/runtime", "PoliciesOperator", "operator"),
        ("new/runtime", "PoliciesOperatorWrites", "operator-writes"),
        ("new/runtime", "PoliciesSessionWriter", "session-writer"),
        ("existing/runtime", "PoliciesController", "controller"),
        ("existing/runtime", "PoliciesFamilies", "controller-families"),
    ],
)
def test_a_managed_policy_is_its_file(name, resource, policy):
    found = template(name)
    (made,) = [r for key, r in found.of("IAM::ManagedPolicy").items() if key[: -len("12345678")] == resource]
    assert made["Properties"]["PolicyDocument"] == _as_deployed(policies.policy(policy, _filled(found)))


@pytest.mark.parametrize(
    ("name", "role", "trust", "policy"),
    [
        ("new/runtime", "EditContainerTaskRole", "tasks", "edit-container"),
        ("new/runtime", "EditContainerExecutionRole", "tasks", "edit-execution"),
        ("new/hints", "HintsPipeRole", "pipes", "hints-pipe"),
        ("new/controller", "ControllerTaskRole", "tasks", None),
        ("new/controller", "ControllerExecutionRole", "tasks", "controller-execution"),
    ],
)
def test_a_role_is_its_files(name, role, trust, policy):
    found = template(name)
    made = found.one("IAM::Role", role)
    known = VALUES | {"ChannelSecretArn": _secret(found)}
    assert made["AssumeRolePolicyDocument"] == _as_deployed(policies.trust(trust, known))
    documents = [p["PolicyDocument"] for p in made.get("Policies", [])]
    assert documents == ([_as_deployed(policies.policy(policy, known))] if policy else [])
    attached = made.get("ManagedPolicyArns", [])
    assert all("PoliciesController" in arn for arn in attached)
    assert bool(attached) is (policy is None)


def _secret(found: Template) -> str:
    for made in found.of("ECS::TaskDefinition").values():
        for secret in made["Properties"]["ContainerDefinitions"][0].get("Secrets", []):
            return str(secret["ValueFrom"])
    return ""


def test_no_role_has_anything_beside_its_files():
    for name in names():
        assert not template(name).of("IAM::Policy"), name


def test_the_pods_role_is_trusted_by_its_files():
    known = VALUES | {"EksCluster": "<EksCluster>", "Namespace": "<Namespace>", "ServiceAccount": "<ServiceAccount>"}
    by_pod, by_token = (_as_deployed(policies.trust(name, known))["Statement"] for name in ("pod-identity", "irsa"))
    for name, statements in (("new/eks", by_pod), ("existing/eks", [*by_pod, *by_token])):
        assert template(name).one("IAM::Role")["AssumeRolePolicyDocument"]["Statement"] == statements


def _as_deployed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as the library writes it: the same, but that it sorts and merges nothing."""
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied


# Hints


def test_pipes_lead_from_the_streams_to_the_queue():
    hints, data = template("new/hints"), template("new/data")
    queue = hints.id_of("SQS::Queue", "HintsQueue")
    pipes = {key: r["Properties"] for key, r in hints.of("Pipes::Pipe").items()}
    assert len(pipes) == 2
    exports = {o["Export"]["Name"]: o["Value"] for o in data.raw["Outputs"].values() if "Export" in o}
    for key, table in (("HintsSessions", "TablesSessions"), ("HintsWishes", "TablesContainers")):
        (pipe,) = [p for name, p in pipes.items() if name.startswith(key)]
        assert exports[pipe["Source"][1:-1]] == {"Fn::GetAtt": [data.id_of("DynamoDB::Table", table), "StreamArn"]}
        assert pipe["Target"] == f"<{queue}.Arn>"
        assert pipe["SourceParameters"]["DynamoDBStreamParameters"]["StartingPosition"] == "LATEST"
        view = data.one("DynamoDB::Table", table)["StreamSpecification"]["StreamViewType"]
        assert view == "NEW_AND_OLD_IMAGES"


def test_the_controllers_own_writes_are_no_hints():
    pipes = template("new/hints").of("Pipes::Pipe")
    patterns = {key[: len("HintsWishes")]: r["Properties"]["SourceParameters"] for key, r in pipes.items()}
    assert "FilterCriteria" not in next(p for key, p in patterns.items() if key.startswith("HintsSess"))
    (wish,) = patterns["HintsWishes"]["FilterCriteria"]["Filters"]
    assert json.loads(wish["Pattern"]) == {"dynamodb": {"NewImage": {"wantedUntil": {"N": [{"exists": True}]}}}}


def test_existing_streams_are_read_as_they_are():
    sources = {r["Properties"]["Source"] for r in template("existing/hints").of("Pipes::Pipe").values()}
    assert all("/stream/" in source for source in sources)
    assert len(sources) == 2


def test_task_events_of_this_cluster_are_hints():
    hints = template("new/hints")
    rule = hints.one("Events::Rule")
    assert rule["EventPattern"] == {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {
            "clusterArn": ["arn:aws:ecs:eu-west-1:123456789012:cluster/webordinary"],
            "lastStatus": ["RUNNING", "STOPPED"],
        },
    }
    queue = hints.id_of("SQS::Queue", "HintsQueue")
    assert [target["Arn"] for target in rule["Targets"]] == [f"<{queue}.Arn>"]
    (allowed,) = [s for s in _queue_policy(hints, queue) if s["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert "sqs:SendMessage" in allowed["Action"]
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": f"<{hints.id_of('Events::Rule')}.Arn>"}}


def _queue_policy(found: Template, queue: str) -> list[dict[str, Any]]:
    (policy,) = [r for r in found.of("SQS::QueuePolicy").values() if r["Properties"]["Queues"] == [f"<{queue}>"]]
    statements: list[dict[str, Any]] = policy["Properties"]["PolicyDocument"]["Statement"]
    return statements


def test_what_is_not_understood_is_set_aside():
    hints = template("new/hints")
    queue, dead = hints.one("SQS::Queue", "HintsQueue"), hints.id_of("SQS::Queue", "HintsDead")
    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": f"<{dead}.Arn>", "maxReceiveCount": 5}
    assert all(q["Properties"]["SqsManagedSseEnabled"] is True for q in hints.of("SQS::Queue").values())


def test_the_hint_queue_is_none_that_users_containers_may_read():
    name = template("new/hints").one("SQS::Queue", "HintsQueue")["QueueName"]
    assert not like(VALUES["SessionQueues"], name)
    assert name == VALUES["HintQueue"]


# Controller


@pytest.mark.parametrize("name", ["new/controller", "existing/controller"])
def test_the_controller_is_one_and_can_write_nowhere(name):
    found = template(name)
    (container,) = found.one("ECS::TaskDefinition")["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["User"] == "65532:65532"
    assert container["Command"] == ["run", "--log-format", "json"]
    assert [s["Name"] for s in container["Secrets"]] == ["EDITCTL_CHANNEL_SECRET"]
    service = found.one("ECS::Service")
    assert service["DesiredCount"] == 1
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100
    network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert ["NetworkController" in group for group in network["SecurityGroups"]] == [True]


@pytest.mark.parametrize("name", ["new", "existing"])
def test_the_controller_is_told_what_the_runtime_stack_prints(name):
    (container,) = template(f"{name}/controller").one("ECS::TaskDefinition")["ContainerDefinitions"]
    told = {variable["Name"]: variable["Value"] for variable in container["Environment"]}
    known = {s.variable for s in settings()}
    assert told.keys() <= known
    printed = template(f"{name}/runtime").outputs
    for setting in settings():
        if _printed(setting.name) in printed:
            assert setting.variable in told
    assert told["EDITCTL_HINT_QUEUE_URL"] == "https://sqs.eu-west-1.amazonaws.com/123456789012/editctl-hints"
    assert "EDITCTL_CHANNEL_SECRET" not in told


def test_alarms_say_what_is_wrong():
    alarms = {r["Properties"]["AlarmName"]: r["Properties"] for r in template("new/controller").of(_ALARM).values()}
    assert alarms.keys() == {
        f"editctl-{name}"
        for name in ("Silent", "RoundsFail", "RowsUnreadable", "WorkNotSaved", "HintsRefused", "HintsWait")
    }
    assert all(alarm["AlarmDescription"] for alarm in alarms.values())
    silent = alarms["editctl-Silent"]
    assert (silent["ComparisonOperator"], silent["TreatMissingData"]) == ("LessThanThreshold", "breaching")
    others = [alarm for name, alarm in alarms.items() if name != "editctl-Silent"]
    assert {alarm["TreatMissingData"] for alarm in others} == {"notBreaching"}
    assert not any("AlarmActions" in alarm for alarm in alarms.values())


def test_alarms_read_words_that_the_log_has():
    """The patterns against lines as the program writes them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(telemetry.JsonLines())
    telemetry.logger.addHandler(handler)
    try:
        telemetry.event("hold", logging.WARNING, reason=str(Reason.ROW_QUARANTINED))
        telemetry.event("hold", logging.WARNING, reason=str(Reason.SAVE_FAILED))
        telemetry.problem(AwsError("no", "why", "do"), 1, 5)
    finally:
        telemetry.logger.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    filters = [r["Properties"]["FilterPattern"] for r in template("new/controller").of("Logs::MetricFilter").values()]
    tests = [re.fullmatch(r'{ \$\.(\w+) = "(\w+)" }', pattern) for pattern in filters]
    assert len(tests) == len(lines) == 3
    for test in tests:
        assert test
        assert [line for line in lines if line.get(test[1]) == test[2]], test[0]


def test_alarms_reach_a_topic_where_one_is_named():
    for alarm in template("existing/controller").of(_ALARM).values():
        assert alarm["Properties"]["AlarmActions"] == ["arn:aws:sns:eu-west-1:123456789012:example"]


_ALARM = "CloudWatch::Alarm"


# EKS


def test_the_pods_service_account_gets_the_role():
    eks = template("new/eks")
    association = eks.one("EKS::PodIdentityAssociation")
    assert association["RoleArn"] == f"<{eks.id_of('IAM::Role')}.Arn>"
    assert (association["Namespace"], association["ServiceAccount"]) == ("<Namespace>", "<ServiceAccount>")
    assert ["PoliciesController" in arn for arn in eks.one("IAM::Role")["ManagedPolicyArns"]] == [True]


def test_the_pod_reaches_the_agents():
    ingress = template("new/eks").one("EC2::SecurityGroupIngress")
    assert "NetworkEdit" in ingress["GroupId"]
    assert ingress["SourceSecurityGroupId"] == "<PodSecurityGroup>"
    assert (ingress["FromPort"], ingress["ToPort"]) == (8642, 8642)


# What is printed


def _printed(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def test_what_the_stacks_print_are_settings_or_said_to_be_none():
    known = {_printed(s.name) for s in settings()}
    printed = {key for name in names() for key in template(name).outputs}
    assert printed - known == NO_SETTINGS
    assert printed & known == {
        "AgentPort",
        "AssignPublicIp",
        "Cluster",
        "ContainerName",
        "ContainersTable",
        "ControllerId",
        "ControllerTable",
        "FamilyPerProject",
        "HintQueueUrl",
        "SecurityGroups",
        "SessionsTable",
        "Subnets",
        "TaskDefinition",
    }


def test_no_secret_is_printed():
    for name in names():
        assert "GenerateSecretString" not in json.dumps(template(name).outputs)
        assert not any(key == "ChannelSecret" for key in template(name).outputs)


def test_what_the_runtime_prints_is_enough_to_start():
    needed = {"Cluster", "Subnets", "SecurityGroups", "TaskDefinition", "ControllerId", "SessionsTable"}
    for name in ("new/runtime", "existing/runtime"):
        assert needed <= template(name).outputs.keys()
