"""The control channel, both halves over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from controller.agent import metadata, protocol
from controller.agent.client import AgentClient, Target, Unknown
from controller.agent.clock import SYSTEM
from controller.agent.control import Control
from controller.agent.protocol import AgentStatus, DrainState, DrainView, Receipt, SaveReason, SaveState, SessionView
from controller.agent.server import CONNECTIONS, Server
from controller.agent.settings import from_environment
from controller.channels import Channels
from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, SUPERSEDED_DRAIN, DrainProgress
from controller.core.reads import AgentRef
from controller.errors import ProtocolError
from tests.agent.world import until
from tests.fakes.clock import FakeClock

ANN = ContainerIdentity("acme", "site", "ann@acme.io")
BOB = ContainerIdentity("acme", "site", "bob@acme.io")
SECRET = b"channel-secret"
ARN = "arn:aws:ecs:eu-west-1:1:task/c/abc"
PRIVATE = "127.0.0.2"


class Agent:
    """A listening agent without a supervisor."""

    def __init__(self) -> None:
        channel = protocol.channel_environment(SECRET, ANN, 3, 7000)
        names = {"CLIENT_ID": "acme", "PROJECT_ID": "site", "USER_ID": "ann@acme.io"}
        environment = {**names, **channel, "EDIT_GENERATION": "3", "EDIT_TASK_ARN": ARN}
        self.woken = threading.Event()
        self.control = Control(from_environment(environment), SYSTEM, self.woken.set)
        self.server = Server(self.control, channel[protocol.ENV_TOKEN_SHA256])
        self.port = self.server.listen("127.0.0.1", 0, local=True)
        self.private_port = self.server.listen(PRIVATE, self.port, local=False)
        self.client = AgentClient({"k1": SECRET}, self.port)
        self.target = Target(ANN, PRIVATE, ARN, 3, "k1")

    def ask(self, method: str, path: str, body: object = None, *, host: str = "127.0.0.1", **headers: str):
        """Send any request; return status and answer."""
        connection = http.client.HTTPConnection(host, self.port, timeout=5)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    one = Agent()
    yield one
    one.server.close()


def known(answer: AgentStatus | Unknown) -> AgentStatus:
    assert isinstance(answer, AgentStatus), answer
    return answer


# What the controller asks


def test_status_says_who_answers(agent):
    status = known(agent.client.status(agent.target))
    assert (status.task_arn, status.generation, status.admitted, status.busy) == (ARN, 3, False, False)


def test_keepalive_admits_and_cancels(agent):
    agent.control.drain(2)
    status = known(agent.client.keepalive(agent.target, 2))
    assert (status.admitted, status.drain, status.cancelled_up_to) == (True, None, 2)
    assert agent.woken.is_set()


def test_drain_receipt_and_cancel(agent):
    asked = known(agent.client.drain(agent.target, 1))
    assert asked.drain is not None
    since = asked.drain.asked_at
    assert asked.drain == DrainView(1, DrainState.SAVING, asked_at=since)
    assert since is not None
    assert abs(since - asked.now) < 5_000
    receipt = Receipt(
        SaveState.SAVED, 5, branch="edit/x/wip", commit="c", remote_commit="c", notes=("n",), pushed={"r": "c"}
    )
    agent.control.saved(receipt, 1)
    saved = known(agent.client.drain(agent.target, 1))
    assert saved.drain is not None
    assert saved.drain == DrainView(1, DrainState.SAVED, receipt, saved.drain.asked_at)
    cancelled = known(agent.client.cancel(agent.target, 1))
    assert (cancelled.drain, cancelled.cancelled_up_to) == (None, 1)
    late = known(agent.client.drain(agent.target, 1))
    assert late.drain is None


def test_sessions_reach_the_workload(agent):
    sessions = (SessionView("s1", "https://queue/in", "https://queue/out"), SessionView("s2"))
    known(agent.client.put_sessions(agent.target, sessions))
    status, body = agent.ask("GET", "/v1/sessions")
    assert status == 200
    assert body["sessions"][0] == {
        "id": "s1",
        "inputQueueUrl": "https://queue/in",
        "outputQueueUrl": "https://queue/out",
    }


def test_a_busy_lease_shows_in_the_status(agent):
    assert agent.ask("POST", "/v1/busy", {"id": "call", "seconds": 90}) == (200, {"validFor": 90.0})
    status = known(agent.client.status(agent.target))
    assert status.busy
    assert status.last_activity is not None
    assert status.busy_until is not None
    assert 80_000 < status.busy_until - status.now <= 90_000
    agent.ask("DELETE", "/v1/busy", {"id": "call"})
    assert not known(agent.client.status(agent.target)).busy


# Whom it refuses


def test_another_containers_token_is_refused(agent):
    answer = agent.client.status(Target(BOB, PRIVATE, ARN, 3, "k1"))
    assert isinstance(answer, Unknown)
    assert answer.refused


def test_another_generations_token_is_refused(agent):
    assert agent.client.status(Target(ANN, PRIVATE, ARN, 4, "k1")).refused


def test_a_reused_address_is_noticed_and_nothing_happens_there(agent):
    other = Target(ANN, PRIVATE, ARN + "-of-before", 3, "k1")
    for answer in (agent.client.status(other), agent.client.drain(other, 1), agent.client.keepalive(other, 9)):
        assert isinstance(answer, Unknown)
        assert answer.wrong_task
    status = agent.control.status()
    assert (status.drain, status.admitted, status.cancelled_up_to) == (None, False, 0)


def test_an_agent_that_does_not_know_its_arn_admits_nobody():
    one = Agent()
    try:
        one.control._task_arn = ""
        answer = one.client.keepalive(one.target, 0)
        assert isinstance(answer, Unknown)
        assert not answer.wrong_task
        assert not one.control.status().admitted
        one.control.set_task(ARN)
        assert known(one.client.keepalive(one.target, 0)).admitted
    finally:
        one.server.close()


def test_an_unknown_key_is_said(agent):
    assert "key id 'k9'" in agent.client.status(Target(ANN, PRIVATE, ARN, 3, "k9")).why


def test_the_key_of_a_task_that_no_record_names_is_found_by_its_tokens_digest(agent):
    digest = protocol.channel_environment(SECRET, ANN, 3, 7000)[protocol.ENV_TOKEN_SHA256]
    target = Target(ANN, PRIVATE, ARN, 3, "", digest)
    # After a rotation the key that launched it is one of several, whatever its id.
    rotated = AgentClient({"k2": b"newer", "old": SECRET, "k3": b"newest"}, agent.port)
    assert known(rotated.status(target)).task_arn == ARN
    assert known(rotated.drain(target, SUPERSEDED_DRAIN)).drain is not None
    # Without it nothing is sent.
    without = AgentClient({"k2": b"newer"}, agent.port).status(target)
    assert isinstance(without, Unknown)
    assert (without.why, without.refused) == ("no channel secret made the token that it was launched with", False)
    # The digest is of one identity and generation: another's is no key to this one.
    for other in (replace(target, identity=BOB), replace(target, generation=4), replace(target, token_digest="")):
        answer = agent.client.status(other)
        assert isinstance(answer, Unknown)
        assert "no channel secret" in answer.why


def test_a_task_without_an_address_is_unknown(agent):
    answer = agent.client.status(replace(agent.target, address=""))
    assert isinstance(answer, Unknown)
    assert answer.why == "it has no address (yet)"


# What the controller knows from asking


@pytest.fixture
def channels(agent):
    return Channels(agent.client, FakeClock(time.time_ns() // 1_000_000))


def ref_of(agent, **more):
    return AgentRef(agent.target.identity, PRIVATE, ARN, 3, "k1", **more)


def test_when_a_drain_was_first_asked_for_is_told_on_our_clock(agent, channels):
    agent_is = ref_of(agent)
    first = channels.drain(agent_is, SUPERSEDED_DRAIN)
    assert (first.drain_id, first.progress) == (SUPERSEDED_DRAIN, DrainProgress.SAVING)
    assert first.drain_since is not None
    assert abs(first.drain_since - channels._clock()) < 5_000
    agent.control.saved(Receipt(SaveState.FAILED, 5, SaveReason.REMOTE_UNREACHABLE), SUPERSEDED_DRAIN)
    # An hour later on our clock, and asked again: it is the same drain, which began when it began.
    channels._clock.step(minutes=60)
    again = channels.drain(agent_is, SUPERSEDED_DRAIN)
    assert again.drain_since is not None
    assert abs(again.drain_since - first.drain_since - 60 * MINUTE) < 5_000, "the agent's clock did not move"


def test_since_when_an_agent_is_silent_is_remembered_until_it_answers(agent, channels):
    agent_is, clock = ref_of(agent), channels._clock
    arn = agent_is.arn
    silent = replace(agent_is, key_id="nobody's")
    began = clock()
    for _ in range(12):
        report = channels.ask([silent])[arn]
        assert (bool(report.unknown), report.unknown_since) == (True, began)
        clock.step(minutes=10)
    assert channels.ask([agent_is])[arn].unknown_since is None
    clock.step(minutes=10)
    assert channels.ask([silent])[arn].unknown_since == clock()
    # Who has not asked for long does not know what was in between.
    clock.step(minutes=31)
    assert channels.ask([silent])[arn].unknown_since == clock()
    # Nor does a process that has just started.
    clock.step(minutes=10)
    assert Channels(agent.client, clock).ask([silent])[arn].unknown_since == clock()


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/status"), ("POST", "/v1/drain"), ("PUT", "/v1/sessions")])
def test_without_the_token_nothing_is_said(agent, header, method, path):
    status, body = agent.ask(method, path, {"id": 1} if method != "GET" else None, **header)
    assert (status, set(body)) == (401, {"error"})
    assert agent.control.status().drain is None


def test_the_workloads_paths_are_only_on_loopback(agent):
    for method, path in (("POST", "/v1/busy"), ("DELETE", "/v1/busy"), ("GET", "/v1/sessions")):
        assert agent.ask(method, path, {"id": "x"}, host=PRIVATE)[0] == 404


def test_a_web_page_in_the_workloads_browser_is_refused(agent):
    assert agent.ask("POST", "/v1/busy", {"id": "x"}, Host="evil.example")[0] == 403
    assert agent.ask("POST", "/v1/busy", {"id": "x"}, Content_Type="text/plain")[0] == 415
    assert agent.control.status().busy_until is None


def test_the_workload_asks_where_its_agent_listens():
    """Tasks as local processes have a loopback address each."""
    one = Agent()
    try:
        one.server.listen("127.0.0.3", one.port, local=True)
        assert one.ask("POST", "/v1/busy", {"id": "x"}, host="127.0.0.3")[0] == 200
    finally:
        one.server.close()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"id": "1"}',
        b'{"id": -1}',
        b'{"id": true}',
        b'{"id": 1.5}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_messages_that_are_none(agent, body):
    token = protocol.channel_token(SECRET, ANN, 3)
    body = body.replace(b'{"id"', f'{{"taskArn": "{ARN}", "generation": 3, "id"'.encode())
    status, _ = agent.ask("POST", "/v1/drain", body, Authorization=f"Bearer {token}")
    assert status == 400
    assert agent.control.status().drain is None


def test_a_message_that_is_too_long_is_not_read(agent):
    token = protocol.channel_token(SECRET, ANN, 3)
    status, _ = agent.ask("PUT", "/v1/sessions", b"", Authorization=f"Bearer {token}", Content_Length="999999999")
    assert status == 400


def test_other_paths_and_methods(agent):
    assert agent.ask("GET", "/")[0] == 404
    assert agent.ask("GET", "/v1/busy")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=5)
    connection.request("PATCH", "/v1/status")
    assert connection.getresponse().status == 501
    connection.close()


def test_connections_are_bounded_and_others_are_served_again(agent):
    held = [socket.create_connection((PRIVATE, agent.port)) for _ in range(CONNECTIONS)]
    until(lambda: isinstance(agent.client.status(agent.target), Unknown), what="all connections are taken")
    for each in held:
        each.close()
    until(lambda: isinstance(agent.client.status(agent.target), AgentStatus), what="one is free")


def test_a_connection_that_drips_is_ended(agent, monkeypatch):
    monkeypatch.setattr("controller.agent.server.CONNECTION_SECONDS", 0.5)
    with socket.create_connection((PRIVATE, agent.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET /v1/status HTTP/1.0\r\nX: ")
        answer = connection.recv(1000)
    assert b"200" not in answer.split(b"\r\n")[0]


# What the client makes of strange answers


def test_nobody_there_is_unknown_and_quick(agent):
    agent.server.close()
    answer = agent.client.status(agent.target)
    assert isinstance(answer, Unknown)
    assert "does not answer" in answer.why


class Strange:
    """Answers every connection with the same bytes, in pieces."""

    def __init__(self, *pieces: bytes, hang: bool = False) -> None:
        self._socket = socket.create_server((PRIVATE, 0))
        self.port = self._socket.getsockname()[1]
        self._pieces = pieces
        self._hang = hang
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            try:
                for piece in self._pieces:
                    connection.sendall(piece)
                    self._over.wait(0.01 if len(self._pieces) > 2 else 0)
            except OSError:
                return
            if self._hang:
                self._over.wait(10)

    def close(self) -> None:
        self._over.set()
        self._socket.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("pieces", "hang", "why"),
    [
        ([], False, "not HTTP"),
        ([], True, "timed out"),
        ([b"HTTP/1.0 200 OK\r\n\r\n"], False, "not JSON"),
        ([b"HTTP/1.0 200 OK\r\n\r\n[]"], False, "JSON object"),
        ([b'HTTP/1.0 200 OK\r\n\r\n{"now": 5}'], False, "does not say"),
        ([b'HTTP/1.0 200 OK\r\n\r\n{"phase": "running", "now": "x"}'], False, "whole number"),
        ([b"HTTP/1.0 500 No\r\n\r\n{}"], False, "answers 500"),
        ([b"SSH-2.0-OpenSSH\r\n"], False, "not HTTP"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", b"x" * (protocol.MAX_ANSWER_BYTES + 10)], False, "longer than"),
        ([b"x"] * 10_000, True, "timed out"),
    ],
)
def test_strange_answers_are_unknown(pieces, hang, why):
    strange = Strange(*pieces, hang=hang)
    client = AgentClient({"k1": SECRET}, strange.port, total_seconds=0.5)
    try:
        answer = client.status(Target(ANN, PRIVATE, ARN, 3, "k1"))
    finally:
        strange.close()
    assert isinstance(answer, Unknown)
    assert why in answer.why


# Tokens and messages


def test_a_token_belongs_to_one_identity_and_generation():
    tokens = {
        protocol.channel_token(secret, who, generation)
        for secret in (SECRET, b"other")
        for who in (ANN, BOB, ContainerIdentity("acme-site", "ann", "x"), ContainerIdentity("acme", "site-ann", "x"))
        for generation in (1, 2)
    }
    assert len(tokens) == 16


def test_the_launch_passes_only_the_digest():
    environment = protocol.channel_environment(SECRET, ANN, 3, 7000)
    token = protocol.channel_token(SECRET, ANN, 3)
    assert token not in environment.values()
    assert protocol.token_matches(token, environment[protocol.ENV_TOKEN_SHA256])
    assert not protocol.token_matches(token + "x", environment[protocol.ENV_TOKEN_SHA256])


def test_receipts_and_statuses_go_over_the_wire_unchanged(agent):
    receipt = Receipt(
        SaveState.FAILED, 1, SaveReason.PUSH_REFUSED, "m", "b", "c", "r", "x", {"ref": "sha"}, 1, 2, 3, ("n",), 4
    )
    assert protocol.receipt_from_json(json.loads(json.dumps(receipt.to_json()))) == receipt
    agent.control.drain(1)
    agent.control.saved(receipt, 1)
    status = agent.control.status()
    assert protocol.status_from_json(json.loads(json.dumps(status.to_json()))) == status


@pytest.mark.parametrize("body", [None, 5, {"state": "saved", "at": "now"}, {"state": "saved", "notes": 1}])
def test_receipts_that_cannot_be_read(body):
    with pytest.raises(ProtocolError):
        protocol.receipt_from_json(body)


# ECS


def serve(body: bytes) -> Strange:
    return Strange(b"HTTP/1.0 200 OK\r\n\r\n", body)


@pytest.mark.parametrize(
    ("body", "arn", "address"),
    [
        (
            {"TaskARN": ARN, "Containers": [{"Networks": [{"IPv4Addresses": ["10.0.3.17"]}]}]},
            ARN,
            "10.0.3.17",
        ),
        ({"TaskARN": ARN, "Containers": [{}]}, ARN, ""),
        ({"TaskARN": ARN, "Containers": [{"Networks": None}, 5]}, ARN, ""),
        ({"TaskARN": 5}, "", ""),
        ([], "", ""),
    ],
)
def test_what_ecs_says(body, arn, address):
    strange = serve(json.dumps(body).encode())
    try:
        task = metadata.ask(f"http://{PRIVATE}:{strange.port}/v4/id")
    finally:
        strange.close()
    assert (task.arn, task.address) == (arn, address)


def test_ecs_that_says_nothing():
    assert metadata.ask("") == metadata.Task()
    assert metadata.ask("http://127.0.0.1:9/v4/id") == metadata.Task()
