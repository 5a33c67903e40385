"""botocore's errors as ours: each with what failed, why, and what to do, and never with a secret."""

from __future__ import annotations

import contextlib
import socket
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from controller import __version__
from controller.aws.client import ClientSettings, client_config, connect, quote, safe_url, translate, translating
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
from tests.fakes.clock import FakeClock

TOKEN = "IQoJb3JpZ2luX2VjEXAMPLETOKEN" * 12
URL = "https://ecs.eu-west-1.amazonaws.com/"


def answer(code: str, message: str = "", status: int = 400, **members: Any) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **members}, "X"
    )


ON_ECS = {"cluster": "webordinry", "region": "eu-west-1"}
ON_TASK = {**ON_ECS, "task": "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/1"}
ON_TABLE = {"table": "webordinary-containers", "region": "eu-west-1", "setting": "EDITCTL_CONTAINERS_TABLE"}
ON_DEFINITION = {**ON_ECS, "definition": "webordinary-edit"}

# (botocore's error, what the call was about, our class)
CASES: list[tuple[Exception, dict[str, str], type[EditctlError]]] = [
    # Credentials
    (answer("ExpiredToken", "The provided token has expired."), ON_ECS, CredentialsError),
    (
        answer("ExpiredTokenException", "The security token included in the request is expired"),
        ON_ECS,
        CredentialsError,
    ),
    (answer("UnrecognizedClientException", "The security token … is invalid."), ON_TABLE, CredentialsError),
    (answer("InvalidClientTokenId", "The security token … is invalid."), ON_ECS, CredentialsError),
    (
        answer("InvalidSignatureException", "Signature expired: 20260302T090000Z is now earlier"),
        ON_ECS,
        CredentialsError,
    ),
    (answer("SignatureDoesNotMatch", f"… x-amz-security-token:{TOKEN}"), ON_ECS, CredentialsError),
    (answer("RequestTimeTooSkewed", "The difference is too large.", 403), ON_ECS, CredentialsError),
    (
        answer("MissingAuthenticationTokenException", "Request is missing Authentication Token"),
        ON_ECS,
        CredentialsError,
    ),
    (answer("SomethingNew", "who are you", 401), ON_ECS, CredentialsError),
    (boto.NoCredentialsError(), ON_ECS, CredentialsError),
    (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), ON_ECS, CredentialsError),
    (boto.CredentialRetrievalError(provider="custom-process", error_msg=f"key {TOKEN}"), ON_ECS, CredentialsError),
    (boto.UnauthorizedSSOTokenError(), ON_ECS, CredentialsError),
    (boto.SSOTokenLoadError(error_msg="x"), ON_ECS, CredentialsError),
    (boto.TokenRetrievalError(provider="sso", error_msg=TOKEN), ON_ECS, CredentialsError),
    (boto.RefreshWithMFAUnsupportedError(), ON_ECS, CredentialsError),
    # Permissions
    (answer("AccessDeniedException", "User: arn:… is not authorized to perform: ecs:RunTask"), ON_ECS, AccessDenied),
    (answer("AccessDenied", "", 403), ON_TABLE, AccessDenied),
    (answer("UnauthorizedOperation"), ON_ECS, AccessDenied),
    (answer("BlockedException", "Your account has been blocked"), ON_ECS, AccessDenied),
    (answer("SomethingNew", "no", 403), ON_ECS, AccessDenied),
    # Endpoint and region
    (boto.EndpointConnectionError(endpoint_url=URL), ON_ECS, EndpointError),
    (boto.ConnectTimeoutError(endpoint_url=URL), ON_ECS, EndpointError),
    (boto.ProxyConnectionError(proxy_url="http://user:geheim@proxy:3128"), ON_ECS, EndpointError),
    (boto.SSLError(endpoint_url=URL, error="certificate verify failed"), ON_ECS, EndpointError),
    (ResponseParserError("Unable to parse response: <html>"), ON_ECS, EndpointError),
    (answer("UnknownOperationException", "", 404), ON_ECS, EndpointError),
    (answer("InvalidSignatureException", "Credential should be scoped to a valid region."), ON_ECS, EndpointError),
    (boto.NoRegionError(), ON_ECS, ConfigError),
    (boto.InvalidRegionError(region_name="eu west 1"), ON_ECS, ConfigError),
    (boto.ProfileNotFound(profile="staging"), ON_ECS, ConfigError),
    (boto.ConfigParseError(path="~/.aws/config"), ON_ECS, ConfigError),
    (boto.InvalidRetryModeError(provided_retry_mode="x", valid_modes="y"), ON_ECS, ConfigError),
    (ValueError("Invalid endpoint: foo bar"), {"endpoint": "foo bar"}, ConfigError),
    # Load
    (answer("ThrottlingException", "Rate exceeded"), ON_ECS, Throttled),
    (answer("ProvisionedThroughputExceededException"), ON_TABLE, Throttled),
    (answer("RequestLimitExceeded", "", 503), ON_ECS, Throttled),
    (answer("LimitExceededException"), ON_TABLE, Throttled),
    (answer("SomethingNew", "", 429), ON_ECS, Throttled),
    # No or a failed answer
    (answer("ServerException", "", 500), ON_ECS, Unavailable),
    (answer("InternalServerError", "", 500), ON_TABLE, Unavailable),
    (answer("SomethingNew", "", 503), ON_ECS, Unavailable),
    (answer("", "", 502), ON_ECS, Unavailable),
    (boto.ReadTimeoutError(endpoint_url=URL), ON_ECS, Unavailable),
    (boto.ConnectionClosedError(endpoint_url=URL), ON_ECS, Unavailable),
    (boto.HTTPClientError(error="broken pipe"), ON_ECS, Unavailable),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), ON_TABLE, Unavailable),
    # Conditions and transactions
    (answer("ConditionalCheckFailedException", "The conditional request failed"), ON_TABLE, ConditionFailed),
    (answer("TransactionConflictException"), ON_TABLE, TransactionConflict),
    (answer("TransactionInProgressException"), ON_TABLE, TransactionConflict),
    (answer("ConflictException", "", resourceIds=["arn:1"]), ON_ECS, LaunchConflict),
    # What is not there
    (answer("ClusterNotFoundException", "Cluster not found."), ON_ECS, ClusterNotFound),
    (answer("ResourceNotFoundException", "Requested resource not found"), ON_TABLE, TableNotFound),
    (answer("InvalidParameterException", "The referenced task was not found."), ON_TASK, TaskNotFound),
    (answer("InvalidParameterException", "The specified task is stopped. Specify …"), ON_TASK, TaskNotFound),
    (answer("ResourceNotFoundException", "The specified task was not found."), ON_TASK, TaskNotFound),
    (answer("ClientException", "Unable to describe task definition."), ON_DEFINITION, TaskDefinitionNotFound),
    (answer("ClientException", "TaskDefinition not found."), ON_DEFINITION, TaskDefinitionNotFound),
    (answer("InvalidParameterException", "TaskDefinition is inactive"), ON_DEFINITION, TaskDefinitionNotFound),
    # What was wrong
    (answer("InvalidParameterException", "Subnet id 'subnet-x' is not valid"), ON_ECS, InvalidRequest),
    (answer("ValidationException", "Invalid UpdateExpression"), ON_TABLE, InvalidRequest),
    (answer("ClientException", "No Fargate configuration exists"), ON_ECS, InvalidRequest),
    (answer("ResourceInUseException", "Table already exists"), ON_TABLE, InvalidRequest),
    (answer("IdempotentParameterMismatchException"), ON_TABLE, InvalidRequest),
    (answer("ResourceNotFoundException", "no such capacity provider"), ON_ECS, InvalidRequest),
    (answer("SomethingNew", "no such thing", 404), ON_ECS, InvalidRequest),
    (boto.ParamValidationError(report="Invalid type for parameter tasks"), ON_ECS, InvalidRequest),
    (boto.DataNotFoundError(data_path="ecs"), ON_ECS, AwsError),
]


@pytest.mark.parametrize(
    ("error", "subject", "expected"), CASES, ids=[f"{i}-{type(e).__name__}" for i, (e, _, _) in enumerate(CASES)]
)
def test_each_error_has_its_class_and_three_lines(
    error: Exception, subject: dict[str, str], expected: type[EditctlError]
) -> None:
    ours = translate(error, "RunTask", **subject)

    assert type(ours) is expected
    assert len(ours.lines()) == 3, ours.lines()
    for line in ours.lines():
        assert line.isprintable()
        assert len(line) < 400
        assert "geheim" not in line
        assert TOKEN[:40] not in line
    if isinstance(ours, AwsError):
        assert ours.operation == "RunTask"
        assert ours.code == (
            error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        )


def lines(error: Exception, operation: str = "RunTask", **subject: str) -> tuple[str, ...]:
    return translate(error, operation, **subject).lines()


def test_the_words_for_a_cluster_that_is_not_there() -> None:
    assert lines(answer("ClusterNotFoundException"), **ON_ECS) == (
        "no ECS cluster named 'webordinry' in eu-west-1",
        "ECS knows no active cluster of that name there",
        "set --cluster or EDITCTL_CLUSTER; `editctl config` shows where the value came from",
    )


def test_the_words_for_a_table_that_is_not_there() -> None:
    assert lines(answer("ResourceNotFoundException"), **ON_TABLE) == (
        "no DynamoDB table named 'webordinary-containers' in eu-west-1",
        "DynamoDB knows no table of that name there",
        (
            "set EDITCTL_CONTAINERS_TABLE, or make the tables with `editctl tables create`; "
            "`editctl config` shows where the value came from"
        ),
    )


def test_the_words_for_expired_credentials_and_for_a_wrong_clock() -> None:
    assert lines(answer("ExpiredTokenException"))[:2] == (
        "AWS refused the credentials of RunTask (ExpiredTokenException)",
        "they have expired",
    )
    assert lines(answer("InvalidSignatureException", "Signature expired: 2026…"))[1:] == (
        "this machine's clock and AWS differ by more than 5 minutes",
        "set the clock (NTP), then try again",
    )


def test_the_words_for_a_missing_permission_name_the_action() -> None:
    said = "User: arn:aws:sts::123456789012:assumed-role/edit/x is not authorized to perform: dynamodb:Scan"

    assert lines(answer("AccessDeniedException", said), "Scan", **ON_TABLE) == (
        "Scan on table 'webordinary-containers' is not allowed",
        said,
        "allow dynamodb:Scan in the policy of this role",
    )
    assert lines(answer("AccessDenied"), "GetQueueAttributes", queue="https://sqs/q")[2].startswith("allow sqs:GetQ")


def test_a_condition_shows_the_row_as_plain_values() -> None:
    error = answer("ConditionalCheckFailedException", Item={"containerId": {"S": "a-b-c"}, "generation": {"N": "3"}})

    ours = translate(error, "UpdateItem", **ON_TABLE)

    assert isinstance(ours, ConditionFailed)
    assert ours.item == {"containerId": "a-b-c", "generation": 3}


def cancelled(*codes: str, **members: Any) -> ClientError:
    reasons = [{"Code": code, **members} for code in codes]
    return answer("TransactionCanceledException", "Transaction cancelled […]", CancellationReasons=reasons)


@pytest.mark.parametrize(
    ("codes", "expected", "retryable"),
    [
        (("ConditionalCheckFailed", "None"), ConditionFailed, False),
        (("None", "ConditionalCheckFailed"), ConditionFailed, False),
        (("ConditionalCheckFailed", "TransactionConflict"), TransactionConflict, True),
        (("ConditionalCheckFailed", "ThrottlingError"), Throttled, True),
        (("ProvisionedThroughputExceeded", "None"), Throttled, True),
        (("ValidationError", "None"), InvalidRequest, False),
        (("ItemCollectionSizeLimitExceeded",), InvalidRequest, False),
        ((), InvalidRequest, False),
    ],
)
def test_a_cancelled_transaction_by_its_reasons(
    codes: tuple[str, ...], expected: type[AwsError], retryable: bool
) -> None:
    ours = translate(cancelled(*codes), "TransactWriteItems", **ON_TABLE)

    assert type(ours) is expected
    assert ours.retryable is retryable
    if isinstance(ours, ConditionFailed):
        assert ours.reasons == codes


def test_the_rows_of_a_cancelled_transaction() -> None:
    ours = translate(cancelled("None", "ConditionalCheckFailed", Item={"a": {"S": "b"}}), "TransactWriteItems")

    assert isinstance(ours, ConditionFailed)
    assert ours.items == ({"a": "b"}, {"a": "b"})


def test_a_launch_conflict_names_the_tasks_of_the_first_launch() -> None:
    ours = translate(answer("ConflictException", resourceIds=["arn:1", "arn:2"]), "RunTask")
    bare = translate(answer("ConflictException"), "RunTask")

    assert isinstance(ours, LaunchConflict)
    assert isinstance(bare, LaunchConflict)
    assert (ours.resource_ids, bare.resource_ids) == (("arn:1", "arn:2"), ())


def test_which_errors_are_worth_another_try() -> None:
    again = {kind for _, _, kind in CASES if issubclass(kind, AwsError) and kind.retryable}

    assert again == {EndpointError, Throttled, Unavailable, TransactionConflict}


# No secrets


def test_nothing_of_a_signature_reaches_message_or_traceback() -> None:
    canonical = f"The Canonical String … x-amz-security-token:{TOKEN} … AKIAIOSFODNN7EXAMPLE"

    with pytest.raises(CredentialsError) as refused, translating("RunTask", **ON_ECS):
        raise answer("SignatureDoesNotMatch", canonical)

    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    assert "x-amz-security-token" not in shown
    assert "AKIA" not in shown


def test_what_aws_says_is_quoted_without_key_ids_passwords_and_control_characters() -> None:
    said = f"key AKIAIOSFODNN7EXAMPLE at https://user:geheim@host/ \x1b[31m\n {TOKEN} {'long ' * 100}"

    quoted = quote(said)

    assert quoted.startswith("key … at https://host/ \\x1b[31m … long")
    assert len(quoted) <= 301


@given(st.text())
def test_a_quote_is_one_short_printable_line(text: str) -> None:
    assert quote(text).isprintable()
    assert len(quote(text)) <= 301


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://u:p@127.0.0.1:4566/", "http://127.0.0.1:4566"),
        ("https://sqs.eu-west-1.amazonaws.com/1/q?X-Amz-Signature=x", "https://sqs.eu-west-1.amazonaws.com/1/q"),
        ("http://[", "?"),
        ("", ""),
    ],
)
def test_a_url_without_what_is_nobody_s_business(url: str, safe: str) -> None:
    assert safe_url(url) == safe


def test_errors_of_ours_pass_through_untouched() -> None:
    ours = Throttled("x")

    with pytest.raises(Throttled) as raised, translating("RunTask"):
        raise ours

    assert raised.value is ours


# Clients


def test_clients_are_made_without_a_call() -> None:
    clients = connect(ClientSettings(region="eu-central-1", endpoint_url="http://127.0.0.1:1"))

    assert (clients.region, clients.endpoint_url) == ("eu-central-1", "http://127.0.0.1:1")


def test_the_environment_s_endpoint_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")

    assert connect().endpoint_url == "http://127.0.0.1:4566"
    assert connect().region == "eu-west-1"


def test_the_configuration_is_bounded_and_says_who_calls() -> None:
    config: Any = client_config(ClientSettings(retry_mode="adaptive", max_attempts=5))

    assert config.retries == {"mode": "adaptive", "total_max_attempts": 5}
    assert (config.connect_timeout, config.read_timeout, config.tcp_keepalive) == (3.0, 15.0, True)
    assert config.user_agent_extra == f"editctl/{__version__}"
    assert config.account_id_endpoint_mode == "disabled"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (ClientSettings(endpoint_url="foo bar"), "'foo bar' is not an endpoint"),
        (ClientSettings(region="eu west 1"), "AWS has no region named 'eu west 1'"),
        (ClientSettings(profile="nobody"), "no AWS profile named 'nobody'"),
    ],
)
def test_settings_that_cannot_be(settings: ClientSettings, what: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        connect(settings)

    assert wrong.value.what == what
    assert len(wrong.value.lines()) == 3


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")

    with pytest.raises(ConfigError, match="no AWS region is set"):
        connect()


def ecs_at(port: int, **changes: Any) -> Any:
    settings = ClientSettings(
        region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}", max_attempts=1, read_timeout=0.2, **changes
    )
    return connect(settings).ecs


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with pytest.raises(EndpointError) as nobody, translating("ListTasks", **ON_ECS):
        ecs_at(port).list_tasks()

    assert nobody.value.what == f"nobody answers at http://127.0.0.1:{port}"
    assert nobody.value.why == "the connection was refused"


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(CredentialsError) as refused, translating("ListTasks", **ON_ECS):
        ecs_at(1).list_tasks()

    assert refused.value.what == "there are no AWS credentials"


@pytest.fixture
def strange_server() -> Iterator[tuple[int, list[bytes]]]:
    """Return the port of a server that answers each request with the next of these bytes, b"" by hanging up."""
    answers: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                if answers and answers[0] == b"silence":
                    connection.settimeout(1)
                    with contextlib.suppress(OSError):
                        connection.recv(1)
                    continue
                if answers:
                    connection.sendall(answers[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], answers
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.mark.parametrize(
    ("bytes_sent", "expected"),
    [
        (b"", Unavailable),
        (b"silence", Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", EndpointError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", EndpointError),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", Unavailable),
        (b'HTTP/1.1 400 X\r\nContent-Length: 35\r\n\r\n{"__type":"ClusterNotFoundException"}'[:-2], InvalidRequest),
        (
            b'HTTP/1.1 400 X\r\nContent-Length: 37\r\n\r\n{"__type":"ClusterNotFoundException"}',
            ClusterNotFound,
        ),
    ],
    ids=["hangs up", "is silent", "is a web page", "says nothing", "is a proxy", "is cut off", "is ECS"],
)
def test_what_comes_over_the_wire(
    strange_server: tuple[int, list[bytes]], bytes_sent: bytes, expected: type[AwsError]
) -> None:
    port, answers = strange_server
    if bytes_sent:
        answers.append(bytes_sent)

    with pytest.raises(AwsError) as raised, translating("ListTasks", **ON_ECS):
        ecs_at(port).list_tasks(cluster="x")

    assert type(raised.value) is expected


@pytest.mark.parametrize(
    ("header", "offset"),
    [
        (b"Date: Mon, 02 Mar 2026 10:00:00 GMT\r\n", 500),
        (b"Date: Mon, 02 Mar 2026 10:02:00 GMT\r\n", 120_500),
        (b"Date: Mon, 02 Mar 2026 08:00:00 GMT\r\n", -7_199_500),
        (b"Date: whenever\r\n", 0),
        (b"", 0),
    ],
)
def test_our_clock_is_held_against_the_date_of_the_answers(
    strange_server: tuple[int, list[bytes]], clock: FakeClock, header: bytes, offset: int
) -> None:
    port, answers = strange_server
    answers.append(b"HTTP/1.1 200 OK\r\n" + header + b'Content-Length: 15\r\n\r\n{"taskArns":[]}')
    clients = connect(ClientSettings(endpoint_url=f"http://127.0.0.1:{port}"), clock)
    assert clients.clock_offset() == 0

    clients.ecs.list_tasks()

    assert clients.clock_offset() == offset


def test_a_session_token_that_has_run_out_is_not_sent() -> None:
    """boto3 refreshes what has expired by the clock; when it cannot, nothing is signed with it."""
    from botocore.credentials import RefreshableCredentials

    def nothing_new() -> dict[str, str]:
        raise boto.CredentialRetrievalError(provider="sso", error_msg=TOKEN)

    first = {"access_key": "a", "secret_key": "b", "token": TOKEN, "expiry_time": "2026-03-02T11:00:00Z"}
    session = boto3.session.Session(region_name="eu-west-1")
    with freeze_time("2026-03-02 10:00:00", real_asyncio=True) as frozen:
        credentials = RefreshableCredentials.create_from_metadata(first, nothing_new, "sso")
        session._session._credentials = credentials
        client = session.client("ecs", endpoint_url="http://127.0.0.1:1", config=client_config(ClientSettings()))
        frozen.move_to("2026-03-02 11:00:01")

        with pytest.raises(CredentialsError) as refused, translating("ListTasks", **ON_ECS):
            client.list_tasks()

    assert refused.value.lines()[:2] == (
        "AWS credentials could not be obtained",
        "sso failed (CredentialRetrievalError)",
    )
    assert TOKEN not in "".join(traceback.format_exception(refused.value))
