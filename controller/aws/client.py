"""boto3 clients, and botocore's errors as ours: `translate` is the one place where the two meet.

No secret reaches a message: what AWS says about signatures and credentials is never quoted (it repeats the signed
request, session token included), everything else is cut, escaped, and cleared of access key ids and URL passwords.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from controller import __version__
from controller.aws.rows import from_item
from controller.core.model import Millis
from controller.errors import (
    AccessDenied,
    AwsError,
    ClusterNotFound,
    ConditionFailed,
    ConfigError,
    CredentialsError,
    EditctlError,
    EndpointError,
    InvalidRequest,
    LaunchConflict,
    TableNotFound,
    TaskDefinitionNotFound,
    TaskNotFound,
    Throttled,
    TransactionConflict,
    Unavailable,
)

# The calls that are used, so that a test or a fake need not be a whole boto3 client


class DynamoDbCalls(Protocol):
    """What is used of boto3's DynamoDB client."""

    def get_item(self, **parameters: Any) -> Mapping[str, Any]: ...
    def batch_get_item(self, **parameters: Any) -> Mapping[str, Any]: ...
    def scan(self, **parameters: Any) -> Mapping[str, Any]: ...
    def query(self, **parameters: Any) -> Mapping[str, Any]: ...
    def put_item(self, **parameters: Any) -> Mapping[str, Any]: ...
    def update_item(self, **parameters: Any) -> Mapping[str, Any]: ...
    def delete_item(self, **parameters: Any) -> Mapping[str, Any]: ...
    def transact_write_items(self, **parameters: Any) -> Mapping[str, Any]: ...
    def describe_table(self, **parameters: Any) -> Mapping[str, Any]: ...
    def create_table(self, **parameters: Any) -> Mapping[str, Any]: ...


class EcsCalls(Protocol):
    """What is used of boto3's ECS client."""

    def list_tasks(self, **parameters: Any) -> Mapping[str, Any]: ...
    def describe_tasks(self, **parameters: Any) -> Mapping[str, Any]: ...
    def run_task(self, **parameters: Any) -> Mapping[str, Any]: ...
    def stop_task(self, **parameters: Any) -> Mapping[str, Any]: ...
    def tag_resource(self, **parameters: Any) -> Mapping[str, Any]: ...
    def describe_clusters(self, **parameters: Any) -> Mapping[str, Any]: ...
    def list_clusters(self, **parameters: Any) -> Mapping[str, Any]: ...
    def describe_task_definition(self, **parameters: Any) -> Mapping[str, Any]: ...
    def register_task_definition(self, **parameters: Any) -> Mapping[str, Any]: ...


class SqsCalls(Protocol):
    """What is used of boto3's SQS client."""

    def get_queue_attributes(self, **parameters: Any) -> Mapping[str, Any]: ...
    def receive_message(self, **parameters: Any) -> Mapping[str, Any]: ...
    def delete_message_batch(self, **parameters: Any) -> Mapping[str, Any]: ...


# Clients


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How AWS is reached. What is None is left to boto3: profiles, AWS_REGION, AWS_ENDPOINT_URL, roles."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    retry_mode: Literal["standard", "adaptive"] = "standard"
    max_attempts: int = 3
    connect_timeout: float = 3.0
    """Seconds. A round waits for its slowest call, so both time-outs are far below boto3's 60 s."""
    read_timeout: float = 15.0
    connections: int = 32
    """Kept open per service; at least as many as calls are made at once."""


def _nobody_counts(api: str, code: str) -> None:
    return None


def _no_offset() -> Millis:
    return 0


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one account and region; each may be used from any thread."""

    dynamodb: DynamoDbCalls
    ecs: EcsCalls
    sqs: SqsCalls
    region: str
    endpoint_url: str
    """Where ECS is: for sentences, and to tell a local endpoint from AWS."""
    clock_offset: Callable[[], Millis] = _no_offset
    """How far AWS's clock is ahead of ours, by the Date of its latest answer; 0 before there was one."""


def wall_clock() -> Millis:
    """Return this machine's time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def connect(
    settings: ClientSettings = ClientSettings(),
    clock: Callable[[], Millis] = wall_clock,
    on_call: Callable[[str, str], None] = _nobody_counts,
) -> Clients:
    """Return clients; nothing is called yet. Raises ConfigError for a region, endpoint or profile that cannot be.

    clock is what AWS's clock is held against. on_call gets the name of every call and its error code, empty if it
    worked.
    """
    watch = ClockWatch(clock)
    try:
        session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
        dynamodb, ecs, sqs = (_client(session, name, settings, watch, on_call) for name in ("dynamodb", "ecs", "sqs"))
    # botocore raises a bare ValueError for an endpoint that is no URL.
    except (boto.BotoCoreError, ValueError) as error:
        raise translate(error, "connect", region=settings.region or "", endpoint=settings.endpoint_url or "") from error
    return Clients(dynamodb, ecs, sqs, ecs.meta.region_name, safe_url(ecs.meta.endpoint_url), watch.offset)


class ClockWatch:
    """Holds our clock against the Date header of every answer."""

    def __init__(self, clock: Callable[[], Millis]) -> None:
        self._clock = clock
        self._offset: Millis = 0

    def offset(self) -> Millis:
        """Return how far the other clock was ahead of ours at the latest answer, to about a second."""
        return self._offset

    def note(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        """Take the time from one answer; one without a Date, or with none that can be read, changes nothing."""
        try:
            theirs = parsedate_to_datetime(response_dict["headers"].get("date", ""))
        except ValueError:
            return
        # The header cuts the second off; half of one is the best guess of what it cut.
        self._offset = round(theirs.timestamp() * 1000) + 500 - self._clock()


def _client(
    session: Any, service: str, settings: ClientSettings, watch: ClockWatch, on_call: Callable[[str, str], None]
) -> Any:
    def answered(model: Any, parsed: Mapping[str, Any], **_: Any) -> None:
        on_call(model.name, parsed.get("Error", {}).get("Code", ""))

    def unanswered(exception: Exception, event_name: str, **_: Any) -> None:
        on_call(event_name.rpartition(".")[2], type(exception).__name__)

    client = session.client(service, endpoint_url=settings.endpoint_url, config=client_config(settings))
    client.meta.events.register("before-parse.*.*", watch.note)
    client.meta.events.register("before-parse.*.*", _refuse_what_is_no_json)
    client.meta.events.register("after-call.*.*", answered)
    client.meta.events.register("after-call-error.*.*", unanswered)
    return client


def _refuse_what_is_no_json(response_dict: Mapping[str, Any], **_: Any) -> None:
    # botocore takes a web page that comes with 200 (a proxy's, a portal's) for an answer with nothing in it. No rows
    # and no tasks is a valid answer, and containers would be stopped by it.
    body = bytes(response_dict["body"] or b"").strip()
    if response_dict["status_code"] < _OK_ENDS and not (body.startswith(b"{") and body.endswith(b"}")):
        raise ResponseParserError("the answer is not JSON")


def part(answer: Mapping[str, Any], name: str) -> Any:
    """Return a member that each answer of the operation has, or raise (in `translating`): somebody else answered."""
    if name not in answer:
        raise ResponseParserError(f"the answer has no {name}")
    return answer[name]


def client_config(settings: ClientSettings) -> Config:
    """Return botocore's configuration for the settings."""
    return Config(
        user_agent_extra=f"editctl/{__version__}",
        retries={"mode": settings.retry_mode, "total_max_attempts": settings.max_attempts},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=settings.connections,
        tcp_keepalive=True,
        # Otherwise DynamoDB is asked at https://{account}.ddb.{region}…, which endpoints of one's own do not serve.
        account_id_endpoint_mode="disabled",
    )


# Errors

CREDENTIALS = frozenset(
    [
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    ]
)
DENIED = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "BlockedException",
        "NotAuthorizedException",
        "OptInRequired",
        "SubscriptionRequiredException",
        "UnauthorizedException",
        "UnauthorizedOperation",
    ]
)
THROTTLED = frozenset(
    [
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
    ]
)
UNAVAILABLE = frozenset(
    [
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerErrorException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServerException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    ]
)
QUEUE_MISSING = frozenset(
    [
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "NonExistentQueue",
        "QueueDeletedRecently",
        "AWS.SimpleQueueService.QueueDeletedRecently",
    ]
)
_CONFLICTS = frozenset({"TransactionConflict", "TransactionConflictException", "TransactionInProgressException"})
_MISSING = frozenset({"ResourceNotFoundException", "TableNotFoundException", "ResourceNotFound"})
_NOT_AWS = frozenset({"UnknownOperationException", "UnknownOperation", "InvalidAction"})

_TASK_MISSING = re.compile(r"task (?:was|is|could|can)? ?not(?: be)? found|task is (?:inactive|stopped)|MISSING", re.I)
_DEFINITION_MISSING = re.compile(
    r"task ?definition (?:was |is )?(?:not found|inactive|does not exist)|describe task definition|revision is missing",
    re.I,
)
_CLOCK = re.compile(r"signature expired|not yet current|too skewed|request has expired", re.I)
_SCOPE = re.compile(r"scoped to (?:a valid|correct)|correct service", re.I)

_KEY_ID = re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b")
_LONG_BLOB = re.compile(r"[A-Za-z0-9+/=_-]{80,}")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_QUOTED = 300
_OK_ENDS = 300

_RENEW = "`aws sts get-caller-identity` shows who you are; renew the credentials or choose others with AWS_PROFILE"
_AGAIN = "it is tried again by itself; if it stays, look at the service's health and quotas"
_WHERE = "`editctl config` shows where the value came from"


@contextmanager
def translating(operation: str, **subject: str) -> Iterator[None]:
    """Turn what botocore raises inside into our errors. `operation` is the API's name of the call, see `translate`."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, ResponseParserError) as error:
        known = translate(error, operation, **subject)
        # The chain is printed with --debug, and what AWS says of a bad signature repeats the session token.
        raise known from (None if isinstance(known, CredentialsError) else error)


def translate(error: Exception, operation: str, **subject: str) -> EditctlError:
    """Return our error for one of botocore's, as three lines: what failed with its value, why, what to do.

    subject names what the call was about, as far as it is known: cluster, table, setting (the setting that names the
    table), task, definition, queue, region, endpoint.
    """
    about = _About(operation, subject)
    if isinstance(error, boto.ClientError):
        return _from_answer(error, about)
    for kinds, build in _WITHOUT_ANSWER:
        if isinstance(error, kinds):
            return build(about, error)
    return AwsError(f"{about} failed", quote(error), _AGAIN, code=type(error).__name__, operation=operation)


@dataclass(frozen=True, slots=True)
class _About:
    operation: str
    subject: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        return self.subject.get(name, "")

    @property
    def there(self) -> str:
        return f" in {self.get('region')}" if self.get("region") else ""

    @property
    def service(self) -> str:
        return "dynamodb" if self.get("table") else "sqs" if self.get("queue") else "ecs"

    def __str__(self) -> str:
        noun = next(
            ((kind, self.get(kind)) for kind in ("table", "queue", "task", "definition", "cluster") if self.get(kind)),
            None,
        )
        return f"{self.operation} on {noun[0]} '{quote(noun[1])}'" if noun else self.operation


def quote(text: object) -> str:
    """Return what somebody else said, fit for one line: no secret, no control character, not long."""
    plain = _USER_INFO.sub("", " ".join(str(text).split()))
    plain = _LONG_BLOB.sub("…", _KEY_ID.sub("…", plain))
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in plain[: _QUOTED + 1])
    return safe if len(safe) <= _QUOTED else safe[:_QUOTED] + "…"


def safe_url(url: str) -> str:
    """Return a URL without user, password and query."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    except ValueError:
        return "?"


# What AWS answered


def _from_answer(error: boto.ClientError, about: _About) -> AwsError:
    response: Mapping[str, Any] = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message") or response.get("message") or "")
    if code == "TransactionCanceledException":
        return _cancelled(response, about)
    for codes, build in _BY_CODE:
        if code in codes:
            return build(about, code, message, response)
    return _by_message(about, code, message) or _by_status(about, code, message, response)


def _by_message(about: _About, code: str, message: str) -> AwsError | None:
    """ECS says "not found" in words: the code is ClientException or InvalidParameterException."""
    if _DEFINITION_MISSING.search(message):
        return _no_definition(about, code, message, {})
    if about.get("task") and _TASK_MISSING.search(message):
        return _no_task(about, code, message, {})
    return None


def _by_status(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400) or 400)
    if status >= 500:
        return _unavailable(about, code, message, response)
    known = {401: _credentials, 403: _denied, 429: _throttled}.get(status, _refused)
    return known(about, code, message, response)


def _credentials(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    if _SCOPE.search(message):
        return EndpointError(
            f"region{about.there and ' ' + about.get('region')} and endpoint do not fit",
            f"AWS refused the signature of {about.operation}: it is for another region or service",
            "check AWS_REGION and AWS_ENDPOINT_URL",
            code=code,
            operation=about.operation,
        )
    if code in ("RequestExpired", "RequestTimeTooSkewed") or _CLOCK.search(message):
        why, todo = "this machine's clock and AWS differ by more than 5 minutes", "set the clock (NTP), then try again"
    elif "xpired" in code:
        why, todo = "they have expired", _RENEW
    else:
        why, todo = "AWS does not know them, or the secret key does not fit the access key", _RENEW
    return CredentialsError(
        f"AWS refused the credentials of {about.operation} ({quote(code)})",
        why,
        todo,
        code=code,
        operation=about.operation,
    )


def _denied(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return AccessDenied(
        f"{about} is not allowed",
        quote(message) or quote(code),
        f"allow {about.service}:{about.operation} in the policy of this role",
        code=code,
        operation=about.operation,
    )


def _throttled(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return Throttled(
        f"{about} was throttled ({quote(code)})",
        "the account's rate for this call is used up, by editctl or by others",
        "it is tried again by itself; if it stays, raise the quota or lower the load",
        code=code,
        operation=about.operation,
    )


def _unavailable(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "5xx")
    return Unavailable(
        f"{about} failed at AWS ({quote(code) or 'no code'}, HTTP {status})",
        "the call may have taken effect all the same",
        _AGAIN,
        code=code,
        operation=about.operation,
    )


def _condition(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return ConditionFailed(
        f"{about}: the row is not as it was read",
        "somebody wrote it in between",
        "look again and decide anew",
        code=code,
        operation=about.operation,
        item=_plain(response.get("Item")),
    )


def _conflict(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return TransactionConflict(
        f"{about} met another transaction",
        "two writers wanted the same rows",
        _AGAIN,
        code=code,
        operation=about.operation,
    )


def _launch_conflict(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    ids = tuple(str(i) for i in response.get("resourceIds") or ())
    return LaunchConflict(
        f"{about}: this client token was used with other parameters",
        f"it launched {', '.join(quote(i) for i in ids)}" if ids else "ECS names no task of that call",
        "the task of the first call counts",
        code=code,
        operation=about.operation,
        resource_ids=ids,
    )


def _no_cluster(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return ClusterNotFound(
        f"no ECS cluster named '{quote(about.get('cluster'))}'{about.there}",
        "ECS knows no active cluster of that name there",
        f"set --cluster or EDITCTL_CLUSTER; {_WHERE}",
        code=code,
        operation=about.operation,
    )


def _missing(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    if about.get("task"):
        return _no_task(about, code, message, response)
    if about.get("table"):
        return _no_table(about, code)
    return _refused(about, code, message, response)


def _no_table(about: _About, code: str) -> AwsError:
    setting = about.get("setting") or "EDITCTL_SESSIONS_TABLE, EDITCTL_CONTAINERS_TABLE or EDITCTL_CONTROLLER_TABLE"
    return TableNotFound(
        f"no DynamoDB table named '{quote(about.get('table'))}'{about.there}",
        "DynamoDB knows no table of that name there",
        f"set {setting}, or make the tables with `editctl tables create`; {_WHERE}",
        code=code,
        operation=about.operation,
    )


def _no_task(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return TaskNotFound(
        f"ECS knows no running task '{quote(about.get('task'))}'",
        quote(message),
        "`editctl status` lists the tasks that there are",
        code=code,
        operation=about.operation,
    )


def _no_definition(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return TaskDefinitionNotFound(
        f"no ACTIVE task definition '{quote(about.get('definition'))}'{about.there}",
        quote(message) or "ECS knows no revision of that family that can run",
        f"register one, or set EDITCTL_TASK_DEFINITION; {_WHERE}",
        code=code,
        operation=about.operation,
    )


def _not_aws(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return EndpointError(
        f"the endpoint does not serve {about.service}:{about.operation}",
        quote(message) or quote(code),
        "check AWS_ENDPOINT_URL: it may point at another service",
        code=code,
        operation=about.operation,
    )


def _refused(about: _About, code: str, message: str, response: Mapping[str, Any]) -> AwsError:
    return InvalidRequest(
        f"{about} was refused ({quote(code) or 'no code'})",
        quote(message) or "AWS gave no reason",
        "correct what it names; repeating it as it is will not help",
        code=code,
        operation=about.operation,
    )


_Build = Callable[[_About, str, str, Mapping[str, Any]], AwsError]
_BY_CODE: tuple[tuple[frozenset[str], _Build], ...] = (
    (CREDENTIALS, _credentials),
    (DENIED, _denied),
    (THROTTLED, _throttled),
    (UNAVAILABLE, _unavailable),
    (_CONFLICTS, _conflict),
    (_MISSING, _missing),
    (_NOT_AWS, _not_aws),
    (frozenset({"ConditionalCheckFailedException"}), _condition),
    (frozenset({"ClusterNotFoundException"}), _no_cluster),
    (frozenset({"ConflictException"}), _launch_conflict),
)


def _cancelled(response: Mapping[str, Any], about: _About) -> AwsError:
    """Return the error of a refused transaction, by its gravest reason.

    A conflict or a throttle among the reasons says nothing about the conditions, so they come first: trying again
    tells.
    """
    reasons = [r for r in response.get("CancellationReasons") or () if isinstance(r, Mapping)]
    codes = tuple(str(r.get("Code", "None")) for r in reasons)
    code = "TransactionCanceledException"
    if any(c in _CONFLICTS for c in codes):
        return _conflict(about, code, "", response)
    if any(c in THROTTLED for c in codes):
        return _throttled(about, next(c for c in codes if c in THROTTLED), "", response)
    if "ConditionalCheckFailed" in codes:
        return ConditionFailed(
            f"{about}: the rows are not as expected",
            "somebody wrote them in between",
            "look again and decide anew",
            code=code,
            operation=about.operation,
            reasons=codes,
            items=tuple(_plain(r.get("Item")) for r in reasons),
        )
    said = next(
        (str(r.get("Message")) for r in reasons if r.get("Message")), str(response.get("Error", {}).get("Message", ""))
    )
    return _refused(about, next((c for c in codes if c != "None"), code), said, response)


def _plain(item: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return from_item(item) if item else None


# What never got an answer


def _no_credentials(about: _About, error: Exception) -> EditctlError:
    return CredentialsError(
        "there are no AWS credentials",
        "neither environment, profile, container nor instance role gave any",
        "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso login`",
        code=type(error).__name__,
        operation=about.operation,
    )


def _partial_credentials(about: _About, error: Exception) -> EditctlError:
    given = getattr(error, "kwargs", {})
    return CredentialsError(
        "the AWS credentials are incomplete",
        f"{quote(given.get('cred_var', 'a part'))} is missing in {quote(given.get('provider', 'their source'))}",
        "set the missing part, or choose another profile with AWS_PROFILE",
        code=type(error).__name__,
        operation=about.operation,
    )


def _unobtainable(about: _About, error: Exception) -> EditctlError:
    # Not the error's own text: it repeats what a credential process wrote.
    provider = quote(getattr(error, "kwargs", {}).get("provider", "their source"))
    return CredentialsError(
        "AWS credentials could not be obtained",
        f"{provider} failed ({type(error).__name__})",
        _RENEW,
        code=type(error).__name__,
        operation=about.operation,
    )


def _no_region(about: _About, error: Exception) -> EditctlError:
    return ConfigError(
        "no AWS region is set",
        "editctl has to know where cluster and tables are",
        "set AWS_REGION, or a region in the AWS profile",
    )


def _bad_region(about: _About, error: Exception) -> EditctlError:
    region = getattr(error, "kwargs", {}).get("region_name", about.get("region"))
    return ConfigError(
        f"AWS has no region named '{quote(region)}'",
        "the name is not of the form eu-west-1",
        "set AWS_REGION, or a region in the AWS profile",
    )


def _no_profile(about: _About, error: Exception) -> EditctlError:
    profile = getattr(error, "kwargs", {}).get("profile", "")
    return ConfigError(
        f"no AWS profile named '{quote(profile)}'",
        "the AWS configuration files do not have it",
        "`aws configure list-profiles` shows those that there are",
    )


def _bad_configuration(about: _About, error: Exception) -> EditctlError:
    return ConfigError(
        "the AWS configuration cannot be used", quote(error), "correct it in ~/.aws/config or the environment"
    )


def _bad_endpoint(about: _About, error: Exception) -> EditctlError:
    url = about.get("endpoint")
    named = f"'{quote(safe_url(url))}'" if url else "AWS_ENDPOINT_URL"
    return ConfigError(
        f"{named} is not an endpoint",
        quote(error),
        "give a URL such as http://127.0.0.1:4566, or unset AWS_ENDPOINT_URL",
    )


def _nobody(about: _About, error: Exception) -> EditctlError:
    given = getattr(error, "kwargs", {})
    url = safe_url(str(given.get("endpoint_url") or given.get("proxy_url") or about.get("endpoint")))
    return EndpointError(
        f"nobody answers at {quote(url) or 'the endpoint'}",
        _why_nobody(error),
        "check AWS_ENDPOINT_URL, the region and the network; `editctl local` serves an endpoint on this machine",
        code=type(error).__name__,
        operation=about.operation,
    )


def _why_nobody(error: Exception) -> str:
    text = str(getattr(error, "kwargs", {}).get("error", ""))
    if isinstance(error, boto.SSLError):
        return "its certificate cannot be trusted, or it does not speak TLS"
    if isinstance(error, boto.ProxyConnectionError):
        return "the proxy did not let the connection through"
    if isinstance(error, boto.ConnectTimeoutError):
        return "the connection was not accepted in time"
    if "resol" in text or "Name or service" in text or "getaddrinfo" in text:
        return "the name is not known"
    return "the connection was refused" if "refused" in text else "no connection came about"


def _no_answer(about: _About, error: Exception) -> EditctlError:
    why = (
        "no answer came in time"
        if isinstance(error, boto.ReadTimeoutError)
        else "the connection broke before the answer"
    )
    return Unavailable(
        f"{about} got no answer",
        f"{why}; the call may have taken effect all the same",
        _AGAIN,
        code=type(error).__name__,
        operation=about.operation,
    )


def _invalid(about: _About, error: Exception) -> EditctlError:
    return InvalidRequest(
        f"{about} was not sent: a parameter is not valid",
        quote(getattr(error, "kwargs", {}).get("report", error)),
        "this is a fault of editctl unless a setting caused it",
        code=type(error).__name__,
        operation=about.operation,
    )


def _unreadable(about: _About, error: Exception) -> EditctlError:
    return EndpointError(
        f"what answered {about} is not AWS",
        "the answer cannot be read",
        "check AWS_ENDPOINT_URL, and proxies in between",
        code=type(error).__name__,
        operation=about.operation,
    )


# The first that fits decides, so what is special stands above what it is a kind of.
_WITHOUT_ANSWER: tuple[tuple[tuple[type[Exception], ...], Callable[[_About, Exception], EditctlError]], ...] = (
    ((boto.NoCredentialsError, boto.NoAuthTokenError), _no_credentials),
    ((boto.PartialCredentialsError,), _partial_credentials),
    (
        (
            boto.CredentialRetrievalError,
            boto.TokenRetrievalError,
            boto.SSOError,
            boto.MetadataRetrievalError,
            boto.RefreshWithMFAUnsupportedError,
            boto.UnknownCredentialError,
            boto.MissingDependencyException,
            *(getattr(boto, name) for name in ("LoginError",) if hasattr(boto, name)),
        ),
        _unobtainable,
    ),
    ((boto.NoRegionError,), _no_region),
    ((boto.InvalidRegionError, boto.UnknownRegionError), _bad_region),
    ((boto.ProfileNotFound,), _no_profile),
    (
        (boto.ConfigParseError, boto.ConfigNotFound, boto.InvalidConfigError, boto.InvalidRetryConfigurationError),
        _bad_configuration,
    ),
    ((boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError), _nobody),
    ((boto.BaseEndpointResolverError, boto.EndpointProviderError, boto.InvalidHostLabelError), _bad_endpoint),
    ((boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError), _no_answer),
    ((boto.ParamValidationError, boto.ValidationError), _invalid),
    ((ResponseParserError,), _unreadable),
    ((ValueError,), _bad_endpoint),
)
