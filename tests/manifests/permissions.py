"""Requests and what each role's policy must say of them: the table that the policies are judged by.

A row names the policies that a role has. For each allowed request, two more are made of it that must not be: another
action of the same service, and the same thing in another account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manifests.aws import policies
from tests.manifests.evaluator import Document, Effect, Request, Value

REGION = "eu-west-1"
ACCOUNT = "123456789012"
OTHER_ACCOUNT = "999999999999"
TASK_ROLE = f"arn:aws:iam::{ACCOUNT}:role/edit-task"
EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/edit-execution"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:channel-Ab12Cd"
ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE"

VALUES = {
    "Partition": "aws",
    "Region": REGION,
    "Account": ACCOUNT,
    "Prefix": "editctl",
    "Cluster": "webordinary",
    "ControllerId": "default",
    "TaskFamily": "webordinary-edit",
    "SessionsTable": "webordinary-edit-sessions",
    "ContainersTable": "webordinary-containers",
    "ControllerTable": "webordinary-controller",
    "SessionQueues": "webordinary-*",
    "HintQueue": "editctl-hints",
    "Repositories": "webordinary/*",
    "EditLogs": "/editctl/edit",
    "ControllerLogs": "/editctl/controller",
    "TaskRoleArn": TASK_ROLE,
    "ExecutionRoleArn": EXECUTION_ROLE,
    "ChannelSecretArn": SECRET,
    "EksCluster": "tools",
    "Namespace": "editctl",
    "ServiceAccount": "editctl",
    "OidcIssuer": ISSUER,
}

ALLOWED, DENIED, NOT_ALLOWED = Effect.ALLOWED, Effect.DENIED, Effect.NOT_ALLOWED


def policy(name: str) -> Document:
    """Return a role's policy with the values of these tests."""
    return policies.policy(name, VALUES)


def trust(name: str) -> Document:
    """Return a trust policy with the values of these tests."""
    return policies.trust(name, VALUES)


@dataclass(frozen=True, slots=True)
class Row:
    """What the named policies together say of a request."""

    policies: tuple[str, ...]
    what: str
    request: Request
    effect: Effect

    def __str__(self) -> str:
        return f"{'+'.join(self.policies)}: {self.what}"


# Names


def arn(service: str, rest: str, account: str = ACCOUNT) -> str:
    """Return an ARN of the region."""
    return f"arn:aws:{service}:{REGION}:{account}:{rest}"


CLUSTER = arn("ecs", "cluster/webordinary")
OTHER_CLUSTER = arn("ecs", "cluster/billing")
TASK = arn("ecs", "task/webordinary/3f2c9d")
OTHER_TASK = arn("ecs", "task/billing/3f2c9d")
EDIT = arn("ecs", "task-definition/webordinary-edit:7")
OF_PROJECT = arn("ecs", "task-definition/webordinary-edit-acme-blog:1")
BILLING = arn("ecs", "task-definition/billing:1")
SESSIONS, RECORDS, NOTES = (
    arn("dynamodb", f"table/{VALUES[name]}") for name in ("SessionsTable", "ContainersTable", "ControllerTable")
)
OTHER_TABLE = arn("dynamodb", "table/invoices")
HINTS = arn("sqs", "editctl-hints")
INPUT = arn("sqs", "webordinary-input-7c41")
OTHER_QUEUE = arn("sqs", "invoices")

OURS = {
    "ContainerId": "acme-blog-tom",
    "ClientId": "acme",
    "ProjectId": "blog",
    "UserId": "tom",
    "ManagedBy": "editctl",
    "Controller": "default",
}
ORIGINAL = {key: OURS[key] for key in ("ContainerId", "ClientId", "ProjectId")}


def asked(tags: Mapping[str, str], **context: Value) -> dict[str, Value]:
    """Return the context of a request that sets these tags."""
    found: dict[str, Value] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return found | {"aws:TagKeys": tuple(tags)} | _colons(context)


def tagged(tags: Mapping[str, str], **context: Value) -> dict[str, Value]:
    """Return the context of a request about something that has these tags."""
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()} | _colons(context)


def _colons(context: Mapping[str, Value]) -> dict[str, Value]:
    return {key.replace("__", ":").replace("_", "-"): value for key, value in context.items()}


def without(tags: Mapping[str, str], key: str) -> dict[str, str]:
    """Return the tags but one."""
    return {k: v for k, v in tags.items() if k != key}


# The table


def rows() -> list[Row]:
    """Return the whole table, the made requests included."""
    written = [
        *_launching(),
        *_marking(),
        *_stopping(),
        *_looking(),
        *_controllers_tables(),
        *_controllers_queues(),
        *_session_writers(),
        *_operators(),
        *_edit_containers(),
        *_execution_and_pipe(),
    ]
    return [*written, *_neighbours(written)]


def _neighbours(written: Sequence[Row]) -> Iterator[Row]:
    for row in written:
        if row.effect is not ALLOWED:
            continue
        service = row.request.action.partition(":")[0]
        other = replace(row.request, action=f"{service}:SomethingElse")
        yield Row(row.policies, f"{row.what}, but another action", other, _unless_denied(row.policies, service))
        if ACCOUNT in row.request.resource:
            elsewhere = replace(row.request, resource=row.request.resource.replace(ACCOUNT, OTHER_ACCOUNT))
            yield Row(row.policies, f"{row.what}, but in another account", elsewhere, NOT_ALLOWED)


def _unless_denied(names: Sequence[str], service: str) -> Effect:
    return DENIED if "edit-container" in names and service in ("dynamodb", "ecs", "iam") else NOT_ALLOWED


def _table(names: str | tuple[str, ...], *cases: tuple[str, str, str, Mapping[str, Value], Effect]) -> Iterator[Row]:
    """Yield rows of (what, action, resource, context, effect)."""
    for what, action, resource, context, effect in cases:
        yield Row((names,) if isinstance(names, str) else names, what, Request(action, resource, context), effect)


def _launching() -> Iterator[Row]:
    run, tag = "ecs:RunTask", "ecs:TagResource"
    here = {"ecs__cluster": CLUSTER}
    ours = asked(OURS, **here)
    yield from _table(
        "controller",
        ("launch", run, EDIT, ours, ALLOWED),
        ("launch, exec said to be off", run, EDIT, ours | {"ecs:enable-execute-command": "false"}, ALLOWED),
        ("launch with a shell into it", run, EDIT, ours | {"ecs:enable-execute-command": "true"}, NOT_ALLOWED),
        ("launch of another family", run, BILLING, ours, NOT_ALLOWED),
        ("launch of a project's family", run, OF_PROJECT, ours, NOT_ALLOWED),
        ("launch in another cluster", run, EDIT, asked(OURS, ecs__cluster=OTHER_CLUSTER), NOT_ALLOWED),
        ("launch in no cluster", run, EDIT, asked(OURS), NOT_ALLOWED),
        ("launch marked as another manager's", run, EDIT, asked(OURS | {"ManagedBy": "x"}, **here), NOT_ALLOWED),
        ("launch marked as another controller's", run, EDIT, asked(OURS | {"Controller": "b"}, **here), NOT_ALLOWED),
        ("tags at a launch", tag, TASK, asked(OURS, ecs__CreateAction="RunTask"), ALLOWED),
        ("tags at a launch elsewhere", tag, OTHER_TASK, asked(OURS, ecs__CreateAction="RunTask"), NOT_ALLOWED),
        ("tags at another creation", tag, TASK, asked(OURS, ecs__CreateAction="StartTask"), NOT_ALLOWED),
        ("tags of a bare task", tag, TASK, asked(OURS), NOT_ALLOWED),
        ("tags at a launch for another", tag, TASK, _at_launch(Controller="b"), NOT_ALLOWED),
        ("tags at a launch by another manager", tag, TASK, _at_launch(ManagedBy="x"), NOT_ALLOWED),
    )
    for key in OURS:
        yield from _table(
            "controller", (f"launch without {key}", run, EDIT, asked(without(OURS, key), **here), NOT_ALLOWED)
        )
    for key in ("ManagedBy", "Controller"):
        tags = asked(without(OURS, key), ecs__CreateAction="RunTask")
        yield from _table("controller", (f"tags at a launch without {key}", tag, TASK, tags, NOT_ALLOWED))
    yield from _roles()
    yield from _families(ours)


def _at_launch(**changed: str) -> dict[str, Value]:
    return asked(OURS | changed, ecs__CreateAction="RunTask")


def _roles() -> Iterator[Row]:
    give, to = "iam:PassRole", {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    other = f"arn:aws:iam::{ACCOUNT}:role/admin"
    yield from _table(
        "controller",
        ("give the task role", give, TASK_ROLE, to, ALLOWED),
        ("give the execution role", give, EXECUTION_ROLE, to, ALLOWED),
        ("give another role", give, other, to, NOT_ALLOWED),
        ("give it to a function", give, TASK_ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}, NOT_ALLOWED),
        ("give it to nobody in particular", give, TASK_ROLE, {}, NOT_ALLOWED),
        ("take a role", "sts:AssumeRole", other, {}, NOT_ALLOWED),
    )


def _families(ours: Mapping[str, Value]) -> Iterator[Row]:
    run, register = "ecs:RunTask", "ecs:RegisterTaskDefinition"
    both = ("controller", "controller-families")
    here = {"ecs__cluster": CLUSTER}
    yield from _table("controller", ("register a family", register, OF_PROJECT, {}, NOT_ALLOWED))
    yield from _table(
        both,
        ("register a project's family", register, OF_PROJECT, {}, ALLOWED),
        ("register over the base", register, EDIT, {}, NOT_ALLOWED),
        ("register another family", register, BILLING, {}, NOT_ALLOWED),
        ("launch of a project's family", run, OF_PROJECT, ours, ALLOWED),
        (
            "launch of it, exec said to be off",
            run,
            OF_PROJECT,
            {**ours, "ecs:enable-execute-command": "false"},
            ALLOWED,
        ),
        ("launch of it with a shell", run, OF_PROJECT, {**ours, "ecs:enable-execute-command": "true"}, NOT_ALLOWED),
        ("launch of it elsewhere", run, OF_PROJECT, asked(OURS, ecs__cluster=OTHER_CLUSTER), NOT_ALLOWED),
        ("launch of it in no cluster", run, OF_PROJECT, asked(OURS), NOT_ALLOWED),
        ("launch of it by another manager", run, OF_PROJECT, asked(OURS | {"ManagedBy": "x"}, **here), NOT_ALLOWED),
        ("launch of it for another", run, OF_PROJECT, asked(OURS | {"Controller": "b"}, **here), NOT_ALLOWED),
    )
    for key in OURS:
        tags = asked(without(OURS, key), **here)
        yield from _table(both, (f"launch of it without {key}", run, OF_PROJECT, tags, NOT_ALLOWED))


def _marking() -> Iterator[Row]:
    tag = "ecs:TagResource"
    original, own = tagged(ORIGINAL), tagged(OURS)
    theirs, foreign = tagged(OURS | {"Controller": "b"}), tagged(ORIGINAL | {"ManagedBy": "terraform"})
    mark = asked(OURS)
    yield from _table(
        "controller",
        ("mark an original task", tag, TASK, mark | original, ALLOWED),
        ("mark our own again", tag, TASK, mark | own, ALLOWED),
        ("mark another controller's", tag, TASK, mark | theirs, NOT_ALLOWED),
        ("mark another manager's", tag, TASK, mark | foreign, NOT_ALLOWED),
        ("mark what has no container id", tag, TASK, mark | tagged({"ClientId": "acme"}), NOT_ALLOWED),
        ("mark in another cluster", tag, OTHER_TASK, mark | original, NOT_ALLOWED),
        ("mark for another", tag, TASK, asked(OURS | {"Controller": "b"}) | original, NOT_ALLOWED),
        ("mark for another manager", tag, TASK, asked(OURS | {"ManagedBy": "x"}) | original, NOT_ALLOWED),
        ("mark without our name", tag, TASK, asked(without(OURS, "ManagedBy")) | original, NOT_ALLOWED),
        ("mark without our id", tag, TASK, asked(without(OURS, "Controller")) | original, NOT_ALLOWED),
        ("mark with more than ours", tag, TASK, asked(OURS | {"CostCenter": "7"}) | original, NOT_ALLOWED),
        ("take tags off", "ecs:UntagResource", TASK, own, NOT_ALLOWED),
    )


def _stopping() -> Iterator[Row]:
    stop = "ecs:StopTask"
    yield from _table(
        "controller",
        ("stop ours", stop, TASK, tagged(OURS), ALLOWED),
        ("stop an original second task", stop, TASK, tagged(ORIGINAL), ALLOWED),
        ("stop another controller's", stop, TASK, tagged(OURS | {"Controller": "b"}), NOT_ALLOWED),
        ("stop another manager's", stop, TASK, tagged(OURS | {"ManagedBy": "terraform"}), NOT_ALLOWED),
        ("stop what only names us", stop, TASK, tagged({"Controller": "default"}), NOT_ALLOWED),
        ("stop what names no controller", stop, TASK, tagged(without(OURS, "Controller")), NOT_ALLOWED),
        ("stop a bare task", stop, TASK, {}, NOT_ALLOWED),
        ("stop it again, its tags gone", stop, TASK, {"ecs:cluster": CLUSTER}, NOT_ALLOWED),
        ("stop in another cluster", stop, OTHER_TASK, tagged(OURS), NOT_ALLOWED),
        ("stop an original elsewhere", stop, OTHER_TASK, tagged(ORIGINAL), NOT_ALLOWED),
        ("open a shell in ours", "ecs:ExecuteCommand", TASK, tagged(OURS), NOT_ALLOWED),
    )


def _looking() -> Iterator[Row]:
    here, elsewhere = {"ecs:cluster": CLUSTER}, {"ecs:cluster": OTHER_CLUSTER}
    for name in ("controller", "operator"):
        yield from _table(
            name,
            ("describe a task", "ecs:DescribeTasks", TASK, here, ALLOWED),
            ("describe another cluster's", "ecs:DescribeTasks", OTHER_TASK, elsewhere, NOT_ALLOWED),
            ("list tasks", "ecs:ListTasks", "*", here, ALLOWED),
            ("list another cluster's", "ecs:ListTasks", "*", elsewhere, NOT_ALLOWED),
            ("list everybody's", "ecs:ListTasks", "*", {}, NOT_ALLOWED),
            ("describe the cluster", "ecs:DescribeClusters", CLUSTER, {}, ALLOWED),
            ("describe another", "ecs:DescribeClusters", OTHER_CLUSTER, {}, NOT_ALLOWED),
            ("delete the cluster", "ecs:DeleteCluster", CLUSTER, {}, NOT_ALLOWED),
            ("list the clusters", "ecs:ListClusters", "*", {}, ALLOWED),
            ("describe a definition", "ecs:DescribeTaskDefinition", "*", {}, ALLOWED),
        )
        for what, table in (("sessions", SESSIONS), ("records", RECORDS), ("notes", NOTES)):
            yield from _table(
                name,
                (f"describe {what}", "dynamodb:DescribeTable", table, {}, ALLOWED),
                (f"read one of {what}", "dynamodb:GetItem", table, {}, ALLOWED),
                (f"read all {what}", "dynamodb:Scan", table, {}, ALLOWED),
                (f"delete {what}", "dynamodb:DeleteTable", table, {}, NOT_ALLOWED),
            )
        yield from _table(name, ("read another table", "dynamodb:Scan", OTHER_TABLE, {}, NOT_ALLOWED))


def _controllers_tables() -> Iterator[Row]:
    put, update, delete = (f"dynamodb:{verb}Item" for verb in ("Put", "Update", "Delete"))
    keys = {name: {"dynamodb:LeadingKeys": (name,)} for name in ("lease", "world", "pause", "quarantine#sessions#s1")}
    quarantine = keys["quarantine#sessions#s1"]
    some = {"dynamodb:LeadingKeys": ("lease", "pause")}
    yield from _table(
        "controller",
        ("read many records", "dynamodb:BatchGetItem", RECORDS, {}, ALLOWED),
        ("read many sessions", "dynamodb:BatchGetItem", SESSIONS, {}, ALLOWED),
        ("find a container's sessions", "dynamodb:Query", f"{SESSIONS}/index/container-index", {}, ALLOWED),
        ("query another index", "dynamodb:Query", f"{SESSIONS}/index/by-user", {}, NOT_ALLOWED),
        ("write a record", update, RECORDS, {}, ALLOWED),
        ("put a record", put, RECORDS, {}, NOT_ALLOWED),
        ("delete a record", delete, RECORDS, {}, NOT_ALLOWED),
        ("write a session", update, SESSIONS, {}, NOT_ALLOWED),
        ("delete a session", delete, SESSIONS, {}, NOT_ALLOWED),
        ("take the lease", put, NOTES, keys["lease"], ALLOWED),
        ("keep the world", update, NOTES, keys["world"], ALLOWED),
        ("note a bad row", update, NOTES, quarantine, ALLOWED),
        ("forget a bad row", delete, NOTES, quarantine, ALLOWED),
        ("pause", update, NOTES, keys["pause"], NOT_ALLOWED),
        ("lift a pause", delete, NOTES, keys["pause"], NOT_ALLOWED),
        ("delete the lease", delete, NOTES, keys["lease"], NOT_ALLOWED),
        ("lift a pause beside a note", delete, NOTES, {"dynamodb:LeadingKeys": ("quarantine#x", "pause")}, NOT_ALLOWED),
        ("pause beside the lease", update, NOTES, some, NOT_ALLOWED),
        ("write a note without a key", update, NOTES, {}, NOT_ALLOWED),
        ("delete a note without a key", delete, NOTES, {}, NOT_ALLOWED),
        ("put a pause", put, NOTES, keys["pause"], NOT_ALLOWED),
        ("write another table", update, OTHER_TABLE, keys["lease"], NOT_ALLOWED),
        ("make a table", "dynamodb:CreateTable", SESSIONS, {}, NOT_ALLOWED),
    )


def _controllers_queues() -> Iterator[Row]:
    yield from _table(
        "controller",
        ("see how much waits", "sqs:GetQueueAttributes", INPUT, {}, ALLOWED),
        ("see another queue", "sqs:GetQueueAttributes", OTHER_QUEUE, {}, NOT_ALLOWED),
        ("read a session's messages", "sqs:ReceiveMessage", INPUT, {}, NOT_ALLOWED),
        ("delete a session's messages", "sqs:DeleteMessage", INPUT, {}, NOT_ALLOWED),
        ("receive hints", "sqs:ReceiveMessage", HINTS, {}, ALLOWED),
        ("delete hints", "sqs:DeleteMessage", HINTS, {}, ALLOWED),
        ("send hints", "sqs:SendMessage", HINTS, {}, NOT_ALLOWED),
        ("purge hints", "sqs:PurgeQueue", HINTS, {}, NOT_ALLOWED),
    )


def _session_writers() -> Iterator[Row]:
    put, update, delete, get = (f"dynamodb:{verb}Item" for verb in ("Put", "Update", "Delete", "Get"))
    both = {"dynamodb:EnclosingOperation": "TransactWriteItems"}
    counted = ("containerId", "clientId", "projectId", "userId", "sessionCount", "lastActivity", "wantedUntil")
    yield from _table(
        "session-writer",
        ("open a session", put, SESSIONS, both, ALLOWED),
        ("touch a session", update, SESSIONS, both, ALLOWED),
        ("close a session", delete, SESSIONS, both, ALLOWED),
        ("put a session alone", put, SESSIONS, {}, NOT_ALLOWED),
        ("touch a session alone", update, SESSIONS, {}, NOT_ALLOWED),
        ("delete a session alone", delete, SESSIONS, {}, NOT_ALLOWED),
        ("put it in a batch", put, SESSIONS, {"dynamodb:EnclosingOperation": "BatchWriteItem"}, NOT_ALLOWED),
        ("count and wish", update, RECORDS, {"dynamodb:Attributes": counted}, ALLOWED),
        ("touch a record", update, RECORDS, {"dynamodb:Attributes": ("containerId", "lastActivity")}, ALLOWED),
        ("write a launch", update, RECORDS, {"dynamodb:Attributes": ("containerId", "launch")}, NOT_ALLOWED),
        ("write an ARN", update, RECORDS, {"dynamodb:Attributes": (*counted, "taskArn")}, NOT_ALLOWED),
        ("lift a hold", update, RECORDS, {"dynamodb:Attributes": ("containerId", "hold")}, NOT_ALLOWED),
        ("write who knows what", update, RECORDS, {}, NOT_ALLOWED),
        ("put a record", put, RECORDS, both | {"dynamodb:Attributes": counted}, NOT_ALLOWED),
        ("delete a record", delete, RECORDS, both, NOT_ALLOWED),
        ("read a session", get, SESSIONS, {}, ALLOWED),
        ("read a record", get, RECORDS, {}, ALLOWED),
        ("read a note", get, NOTES, {}, NOT_ALLOWED),
        ("see the pause", "dynamodb:Scan", NOTES, {}, ALLOWED),
        ("read all sessions", "dynamodb:Scan", SESSIONS, {}, NOT_ALLOWED),
        ("pause", update, NOTES, {"dynamodb:LeadingKeys": ("pause",)}, NOT_ALLOWED),
        ("write another table", put, OTHER_TABLE, both, NOT_ALLOWED),
        ("launch", "ecs:RunTask", EDIT, asked(OURS, ecs__cluster=CLUSTER), NOT_ALLOWED),
        ("stop", "ecs:StopTask", TASK, tagged(OURS), NOT_ALLOWED),
    )


def _operators() -> Iterator[Row]:
    update, delete, tag = "dynamodb:UpdateItem", "dynamodb:DeleteItem", "ecs:TagResource"
    keys: dict[str, dict[str, Any]] = {name: {"dynamodb:LeadingKeys": (name,)} for name in ("pause", "world", "lease")}
    some = {"dynamodb:LeadingKeys": ("pause", "lease")}
    mark = asked(OURS)
    yield from _table(
        "operator",
        ("read what stacks print", "cloudformation:DescribeStacks", arn("cloudformation", _STACK), {}, ALLOWED),
        ("read another's", "cloudformation:DescribeStacks", arn("cloudformation", "stack/billing/1"), {}, NOT_ALLOWED),
        ("write a record", update, RECORDS, {}, NOT_ALLOWED),
        ("pause", update, NOTES, keys["pause"], NOT_ALLOWED),
        ("stop", "ecs:StopTask", TASK, tagged(OURS), NOT_ALLOWED),
        ("launch", "ecs:RunTask", EDIT, asked(OURS, ecs__cluster=CLUSTER), NOT_ALLOWED),
        ("adopt", tag, TASK, mark, NOT_ALLOWED),
    )
    yield from _table(
        ("operator", "operator-writes"),
        ("hold a container", update, RECORDS, {}, ALLOWED),
        ("pause", update, NOTES, keys["pause"], ALLOWED),
        ("lift a pause", delete, NOTES, keys["pause"], ALLOWED),
        ("accept another world", "dynamodb:PutItem", NOTES, keys["world"], ALLOWED),
        ("take the lease", update, NOTES, keys["lease"], NOT_ALLOWED),
        ("take the lease beside a pause", update, NOTES, some, NOT_ALLOWED),
        ("write a note without a key", update, NOTES, {}, NOT_ALLOWED),
        ("delete a record", delete, RECORDS, {}, NOT_ALLOWED),
        ("write a session", update, SESSIONS, {}, NOT_ALLOWED),
        ("adopt any task", tag, TASK, mark | tagged({"ManagedBy": "x"}), ALLOWED),
        ("adopt elsewhere", tag, OTHER_TASK, mark, NOT_ALLOWED),
        ("adopt for another", tag, TASK, asked(OURS | {"Controller": "b"}), NOT_ALLOWED),
        ("adopt for another manager", tag, TASK, asked(OURS | {"ManagedBy": "x"}), NOT_ALLOWED),
        ("adopt without our name", tag, TASK, asked(without(OURS, "ManagedBy")), NOT_ALLOWED),
        ("adopt without our id", tag, TASK, asked(without(OURS, "Controller")), NOT_ALLOWED),
        ("stop", "ecs:StopTask", TASK, tagged(OURS), NOT_ALLOWED),
    )


_STACK = "stack/editctl-runtime/5f1c"


def _edit_containers() -> Iterator[Row]:
    name = "edit-container"
    for verb in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes", "SendMessage"):
        yield from _table(name, (verb, f"sqs:{verb}", INPUT, {}, ALLOWED))
    yield from _table(
        name,
        ("read hints", "sqs:ReceiveMessage", HINTS, {}, NOT_ALLOWED),
        ("read another queue", "sqs:ReceiveMessage", OTHER_QUEUE, {}, NOT_ALLOWED),
        ("read a record", "dynamodb:GetItem", RECORDS, {}, DENIED),
        ("read sessions", "dynamodb:Query", SESSIONS, {}, DENIED),
        ("launch", "ecs:RunTask", EDIT, asked(OURS, ecs__cluster=CLUSTER), DENIED),
        ("look at tasks", "ecs:DescribeTasks", TASK, {}, DENIED),
        ("give a role", "iam:PassRole", TASK_ROLE, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, DENIED),
        ("take a role", "sts:AssumeRole", TASK_ROLE, {}, DENIED),
        ("read a refusal", "sts:DecodeAuthorizationMessage", "*", {}, NOT_ALLOWED),
        ("read the channel secret", "secretsmanager:GetSecretValue", SECRET, {}, NOT_ALLOWED),
    )
    # Whatever else is attached to the role by mistake, the tables stay closed.
    yield from _table(
        (name, "controller"),
        ("read a record all the same", "dynamodb:GetItem", RECORDS, {}, DENIED),
        ("stop all the same", "ecs:StopTask", TASK, tagged(OURS), DENIED),
    )


def _execution_and_pipe() -> Iterator[Row]:
    image, other_image = arn("ecr", "repository/webordinary/edit"), arn("ecr", "repository/billing/api")
    for name, group in (("edit-execution", "edit"), ("controller-execution", "controller")):
        lines = arn("logs", f"log-group:/editctl/{group}:log-stream:s/1")
        others = arn("logs", "log-group:/billing:log-stream:s")
        yield from _table(
            name,
            ("log in", "ecr:GetAuthorizationToken", "*", {}, ALLOWED),
            ("check layers", "ecr:BatchCheckLayerAvailability", image, {}, ALLOWED),
            ("fetch a layer", "ecr:GetDownloadUrlForLayer", image, {}, ALLOWED),
            ("fetch the image", "ecr:BatchGetImage", image, {}, ALLOWED),
            ("fetch another", "ecr:BatchGetImage", other_image, {}, NOT_ALLOWED),
            ("push an image", "ecr:PutImage", image, {}, NOT_ALLOWED),
            ("begin a log", "logs:CreateLogStream", lines, {}, ALLOWED),
            ("write a log", "logs:PutLogEvents", lines, {}, ALLOWED),
            ("write another log", "logs:PutLogEvents", others, {}, NOT_ALLOWED),
            ("read a table", "dynamodb:GetItem", RECORDS, {}, NOT_ALLOWED),
        )
    secret = "secretsmanager:GetSecretValue"
    yield from _table("edit-execution", ("read the channel secret", secret, SECRET, {}, NOT_ALLOWED))
    yield from _table(
        "controller-execution",
        ("read the channel secret", secret, SECRET, {}, ALLOWED),
        ("read another secret", secret, arn("secretsmanager", "secret:invoices-Ab12Cd"), {}, NOT_ALLOWED),
    )
    of_sessions, of_records = f"{SESSIONS}/stream/label", f"{RECORDS}/stream/label"
    yield from _table(
        "hints-pipe",
        ("describe a stream", "dynamodb:DescribeStream", of_sessions, {}, ALLOWED),
        ("find a place in it", "dynamodb:GetShardIterator", of_sessions, {}, ALLOWED),
        ("read it", "dynamodb:GetRecords", of_sessions, {}, ALLOWED),
        ("read the other", "dynamodb:GetRecords", of_records, {}, ALLOWED),
        ("read the notes' stream", "dynamodb:GetRecords", f"{NOTES}/stream/label", {}, NOT_ALLOWED),
        ("list streams", "dynamodb:ListStreams", "*", {}, ALLOWED),
        ("read a table", "dynamodb:GetItem", SESSIONS, {}, NOT_ALLOWED),
        ("send a hint", "sqs:SendMessage", HINTS, {}, ALLOWED),
        ("send to a session", "sqs:SendMessage", INPUT, {}, NOT_ALLOWED),
    )


# Who may take which role


@dataclass(frozen=True, slots=True)
class TrustRow:
    """What a trust policy says of somebody who asks for its role."""

    trust: str
    what: str
    request: Request
    effect: Effect

    def __str__(self) -> str:
        return f"{self.trust}: {self.what}"


def trust_rows() -> list[TrustRow]:
    """Return the table of trusts."""
    rows = []
    for name, service, source in (
        ("tasks", "ecs-tasks.amazonaws.com", arn("ecs", "*")),
        ("pipes", "pipes.amazonaws.com", arn("pipes", "pipe/editctl-sessions")),
    ):
        ours: dict[str, Value] = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": source}
        theirs = source.replace(ACCOUNT, OTHER_ACCOUNT)
        rows += [
            _trusted(name, "the service", service, ours, ALLOWED),
            _trusted(name, "another service", "ec2.amazonaws.com", ours, NOT_ALLOWED),
            _trusted(name, "for another account", service, ours | {"aws:SourceAccount": OTHER_ACCOUNT}, NOT_ALLOWED),
            _trusted(name, "for something of another account", service, ours | {"aws:SourceArn": theirs}, NOT_ALLOWED),
            _trusted(name, "for nobody", service, {}, NOT_ALLOWED),
            _trusted(name, "with tags", service, ours, NOT_ALLOWED, "sts:TagSession"),
            _trusted(name, "for an account alone", service, {"aws:SourceAccount": ACCOUNT}, NOT_ALLOWED),
            _trusted(name, "for a thing alone", service, {"aws:SourceArn": source}, NOT_ALLOWED),
        ]
    other_pipe: dict[str, Value] = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": arn("pipes", "pipe/billing")}
    rows.append(_trusted("pipes", "another pipe", "pipes.amazonaws.com", other_pipe, NOT_ALLOWED))
    return [*rows, *_pods(), *_tokens()]


def _trusted(
    name: str, what: str, service: str, context: Mapping[str, Value], effect: Effect, action: str = "sts:AssumeRole"
) -> TrustRow:
    return TrustRow(name, what, Request(action, context=context, principal={"Service": service}), effect)


def _pods() -> Iterator[TrustRow]:
    service = "pods.eks.amazonaws.com"
    pod: dict[str, Value] = {
        "aws:SourceAccount": ACCOUNT,
        "aws:SourceArn": arn("eks", "cluster/tools"),
        "aws:RequestTag/kubernetes-namespace": "editctl",
        "aws:RequestTag/kubernetes-service-account": "editctl",
    }
    yield _trusted("pod-identity", "the pod", service, pod, ALLOWED)
    yield _trusted("pod-identity", "its tags", service, pod, ALLOWED, "sts:TagSession")
    yield _trusted("pod-identity", "another action", service, pod, NOT_ALLOWED, "sts:SetSourceIdentity")
    yield _trusted("pod-identity", "another service", "ecs-tasks.amazonaws.com", pod, NOT_ALLOWED)
    for key, other in (
        ("aws:SourceAccount", OTHER_ACCOUNT),
        ("aws:SourceArn", arn("eks", "cluster/toys")),
        ("aws:RequestTag/kubernetes-namespace", "default"),
        ("aws:RequestTag/kubernetes-service-account", "default"),
    ):
        yield _trusted("pod-identity", f"another {key}", service, pod | {key: other}, NOT_ALLOWED)
        less = {k: v for k, v in pod.items() if k != key}
        yield _trusted("pod-identity", f"no {key}", service, less, NOT_ALLOWED)


def _tokens() -> Iterator[TrustRow]:
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
    token: dict[str, Value] = {
        f"{ISSUER}:sub": "system:serviceaccount:editctl:editctl",
        f"{ISSUER}:aud": "sts.amazonaws.com",
    }

    def row(what: str, context: Mapping[str, Value], effect: Effect, who: str = provider) -> TrustRow:
        request = Request("sts:AssumeRoleWithWebIdentity", context=context, principal={"Federated": who})
        return TrustRow("irsa", what, request, effect)

    yield row("the service account", token, ALLOWED)
    yield row("another one", token | {f"{ISSUER}:sub": "system:serviceaccount:editctl:default"}, NOT_ALLOWED)
    yield row("another namespace", token | {f"{ISSUER}:sub": "system:serviceaccount:x:editctl"}, NOT_ALLOWED)
    yield row("a token for others", token | {f"{ISSUER}:aud": "vault"}, NOT_ALLOWED)
    yield row("a token that says no subject", {f"{ISSUER}:aud": "sts.amazonaws.com"}, NOT_ALLOWED)
    yield row("a token for nobody", {f"{ISSUER}:sub": token[f"{ISSUER}:sub"]}, NOT_ALLOWED)
    yield row("another issuer", token, NOT_ALLOWED, f"arn:aws:iam::{ACCOUNT}:oidc-provider/other")
    plain = Request("sts:AssumeRole", context=token, principal={"Federated": provider})
    yield TrustRow("irsa", "without a token", plain, NOT_ALLOWED)
