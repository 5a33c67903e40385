"""Figures and probes: what plans and outcomes come to, under the names that dashboards read."""

import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.core.model import ContainerStatus
from controller.core.policy import Policy
from controller.errors import ConfigError, PortInUse
from controller.metrics import Health, Metrics, MetricsServer
from tests.faults.stories import EVA, TOM
from tests.simulation import Simulation

NAMES = {
    "editctl_containers",
    "editctl_sessions",
    "editctl_actions_total",
    "editctl_deferred",
    "editctl_round_seconds",
    "editctl_row_to_start_seconds",
    "editctl_drain_seconds",
    "editctl_saves_total",
    "editctl_regretted_stops_total",
    "editctl_sight",
    "editctl_aws_calls_total",
    "editctl_aws_wait_seconds_total",
    "editctl_leader",
    "editctl_idle_seconds_total",
    "editctl_build_info",
}


@pytest.fixture
def sim():
    return Simulation()


@pytest.fixture
def metrics(sim):
    return Metrics(sim.policy, sim.clock)


def play(sim, metrics, rounds=6):
    for _ in range(rounds):
        done = sim.round()
        for outcome in done.outcomes:
            metrics.outcome(outcome)
        metrics.round(done.world, done.plan, 0.02)
        sim.clock.step(seconds=2)


def value(metrics, name, **labels):
    found = metrics.registry.get_sample_value(name, labels)
    return 0.0 if found is None else found


def test_the_names_are_those_that_are_documented(metrics):
    families = {f.name for f in text_string_to_metric_families(metrics.text().decode())}
    counters = {n.removesuffix("_total") for n in NAMES}
    assert families == counters


def test_a_day_in_figures(sim, metrics):
    sim.registry.open("s1", TOM)
    sim.clock.step(ms=250)
    sim.registry.open("s2", EVA)
    play(sim, metrics)
    assert value(metrics, "editctl_containers", phase="Running") == 2
    assert value(metrics, "editctl_sessions", state="active") == 2
    assert value(metrics, "editctl_actions_total", action="start", reason="SessionActive", outcome="done") == 2
    assert value(metrics, "editctl_row_to_start_seconds_count") == 2
    assert value(metrics, "editctl_row_to_start_seconds_sum") == pytest.approx(0.25)
    assert value(metrics, "editctl_sight", source="tasks", quality="complete") == 1

    sim.clock.step(minutes=22)
    sim.registry.touch("s2")
    play(sim, metrics)
    assert value(metrics, "editctl_containers", phase="Stopped") == 1
    assert value(metrics, "editctl_drain_seconds_count", result="stopped") == 1
    assert value(metrics, "editctl_regretted_stops_total") == 0

    sim.clock.step(minutes=5)
    sim.registry.touch("s1")
    play(sim, metrics)
    assert value(metrics, "editctl_regretted_stops_total") == 1


def test_idle_time_is_added_by_client(sim, metrics):
    sim.registry.open("s1", TOM)
    play(sim, metrics)
    sim.registry.release("s1")
    before = value(metrics, "editctl_idle_seconds_total", client="acme")
    play(sim, metrics, rounds=10)
    assert 14 <= value(metrics, "editctl_idle_seconds_total", client="acme") - before <= 20


def test_bad_sight_leaves_the_last_figures_and_says_so(sim, metrics):
    sim.registry.open("s1", TOM)
    play(sim, metrics)
    sim.tables.fail("read_sessions")
    play(sim, metrics, rounds=1)
    assert value(metrics, "editctl_sight", source="sessions", quality="unknown") == 1
    assert value(metrics, "editctl_sessions", state="active") == 1


def test_no_label_names_a_session_a_user_or_a_task(sim, metrics):
    sim.registry.open("session-0815", TOM)
    play(sim, metrics)
    sim.clock.step(minutes=22)
    play(sim, metrics)
    text = metrics.text().decode()
    record = sim.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.status is ContainerStatus.TERMINATED
    for secret in ("0815", TOM.user_id + '"', TOM.container_id, "arn:aws", "127."):
        assert secret not in text


def test_waits_and_calls(metrics):
    metrics.aws_call("RunTask", "")
    metrics.aws_call("RunTask", "ThrottlingException")
    metrics.quota_wait("run_task", 1500)
    assert value(metrics, "editctl_aws_calls_total", api="RunTask", code="ThrottlingException") == 1
    assert value(metrics, "editctl_aws_wait_seconds_total", bucket="run_task") == 1.5


# Probes


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_tell_whether_the_loop_moves_and_how_fresh_it_is(clock):
    health = Health(clock, poll=10_000, resync=600_000)
    with MetricsServer("127.0.0.1:0", Metrics(Policy(), clock), health) as server:
        assert get(server.port, "/livez") == (200, "ok\n")
        assert get(server.port, "/readyz") == (503, "no complete resync yet\n")
        health.complete()
        assert get(server.port, "/readyz") == (200, "ok\n")
        clock.step(seconds=31)
        assert get(server.port, "/livez") == (503, "the loop has not moved for 31 s\n")
        health.moved()
        assert get(server.port, "/livez") == (200, "ok\n")
        clock.step(minutes=20)
        assert get(server.port, "/readyz")[0] == 503
        health.complete()
        health.trouble("the tables are not those seen first")
        assert get(server.port, "/readyz") == (503, "the tables are not those seen first\n")
        status, text = get(server.port, "/metrics")
        assert status == 200
        assert "editctl_build_info" in text
        assert get(server.port, "/")[0] == 404


def test_an_address_that_cannot_be_used_is_named(clock):
    health, metrics = Health(clock, 1, 1), Metrics(Policy(), clock)
    with MetricsServer("127.0.0.1:0", metrics, health) as server:
        with pytest.raises(PortInUse, match=str(server.port)):
            MetricsServer(f"127.0.0.1:{server.port}", metrics, health)
    with pytest.raises(ConfigError, match="HOST:PORT"):
        MetricsServer("nowhere", metrics, health)
