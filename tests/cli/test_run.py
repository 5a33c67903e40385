"""`editctl run`: when rounds are, what is said, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.cli.screen import Screen
from controller.core.model import MINUTE, SECOND
from controller.errors import Throttled, Unavailable
from controller.reconcile.leadership import Leadership
from controller.reconcile.loop import HEARTBEAT, Host, Loop
from controller.reconcile.reconciler import Round
from tests.cli.lab import Account, Lab


class Clocked:
    """A stop that comes after a time; waiting moves the clock."""

    def __init__(self, lab: Lab, after: int) -> None:
        self._lab = lab
        self._until = lab.clock() + after
        self.waits: list[float] = []

    @property
    def requested(self) -> bool:
        return self._lab.clock() >= self._until

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._lab.clock.step(seconds=max(seconds, 0.001))

    def wake(self) -> None:
        """Nobody waits here."""


class Told:
    """A host that notes what it is told."""

    def __init__(self) -> None:
        self.before_: list[frozenset[str] | None] = []
        self.rounds = 0

    def before(self, container_ids: frozenset[str] | None) -> None:
        self.before_.append(container_ids)

    def after(self, done: Round) -> None:
        self.rounds += 1


def loop_for(lab: Lab, milliseconds: int, *, holder: str = "a", host: Host | None = None) -> tuple[Loop, Clocked]:
    stop = Clocked(lab, milliseconds)
    leadership = Leadership(lab.tables, holder, lab.clock)
    reconciler = lab.simulation.new_controller()
    return Loop(reconciler, leadership, stop, lab.clock, 10 * SECOND, say_time=Screen().time, host=host), stop


def events(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_session_gets_its_container(lab: Lab, log: io.StringIO) -> None:
    tom = lab.open("s1", "acme", "blog", "tom")
    loop, _ = loop_for(lab, 10 * SECOND)
    loop.run()
    assert len(lab.simulation.live(tom.container_id)) == 1
    start, record = (e for e in events(log) if e["event"] in ("start", "record"))
    assert (start["containerId"], start["reason"], start["outcome"], start["generation"], start["round"]) == (
        "acme-blog-tom",
        "SessionActive",
        "done",
        1,
        1,
    )
    assert start["message"].endswith("0 s after the row")
    assert start["taskArn"].startswith("arn:aws:ecs:")
    assert record["message"].startswith("running in")


def test_at_rest_it_polls_and_says_one_line_a_minute(lab: Lab, log: io.StringIO) -> None:
    lab.running("s1", "acme", "blog", "tom")
    looks = lab.tables.calls["read_sessions"]
    writes = lab.tables.calls["write"]
    loop, _ = loop_for(lab, 5 * MINUTE)
    loop.run()
    assert 28 <= lab.tables.calls["read_sessions"] - looks <= 32
    assert lab.tables.calls["write"] == writes
    beats = [e for e in events(log) if e["event"] == "at rest"]
    assert 4 <= len(beats) <= 5
    assert beats[0]["message"].startswith("1 container, 0 due, next 10:0")
    assert beats[0]["message"].endswith(", sight fresh")
    assert HEARTBEAT == MINUTE


def test_a_deadline_comes_before_the_poll(lab: Lab, log: io.StringIO) -> None:
    tom = lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(minutes=20, seconds=57)
    loop, stop = loop_for(lab, 30 * SECOND)
    loop.run()
    assert lab.simulation.live(tom.container_id) == []
    kinds = [e["event"] for e in events(log) if "containerId" in e]
    assert kinds[0] == "drain"
    assert max(stop.waits) <= 5


def test_what_fails_is_tried_less_and_less_often(lab: Lab, log: io.StringIO) -> None:
    lab.tables.fail("read_notes", Unavailable("Scan failed at AWS", "HTTP 503", code="InternalServerError"), times=8)
    loop, stop = loop_for(lab, 4 * MINUTE)
    loop.run()
    problems = [e for e in events(log) if e["event"] == "error"]
    assert [e["code"] for e in problems] == ["InternalServerError"] * 8
    assert [e["level"] for e in problems] == ["error"] * 8
    assert stop.waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert "Scan failed at AWS: HTTP 503; next try in 1 s" in problems[0]["message"]


def test_a_fault_of_one_round_does_not_end_it(lab: Lab, log: io.StringIO) -> None:
    lab.tables.fail("read_notes", ZeroDivisionError("no"), times=1)  # type: ignore[arg-type]
    tom = lab.open("s1", "acme", "blog", "tom")
    loop, _ = loop_for(lab, 30 * SECOND)
    loop.run()
    assert "unexpected ZeroDivisionError: no" in log.getvalue()
    assert len(lab.simulation.live(tom.container_id)) == 1


def test_bad_sight_is_said_when_it_comes_and_when_it_goes(lab: Lab, log: io.StringIO) -> None:
    lab.tables.fail("read_sessions", Throttled("Scan was throttled", code="ThrottlingException"), times=3)
    loop, _ = loop_for(lab, MINUTE)
    loop.run()
    said = [e["message"] for e in events(log) if e["event"] == "sight"]
    assert said == ["sessions unknown: page 1 failed: ThrottlingException", "everything is seen again"]


def test_what_is_held_is_said_once(lab: Lab, log: io.StringIO) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.editctl("hold", "acme-blog-tom", "--reason", "demo", "--by", "ann")
    loop, _ = loop_for(lab, 2 * MINUTE)
    loop.run()
    [held] = [e for e in events(log) if e["event"] == "hold"]
    assert (held["containerId"], held["reason"], held["action"]) == ("acme-blog-tom", "Held", "start")


def test_the_stop_comes_between_two_steps(lab: Lab, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        lab.open(f"s{n}", "acme", "blog", f"user{n}")
    loop, stop = loop_for(lab, 10 * SECOND)
    write = lab.tables.write

    def write_and_stop(what: Any) -> Any:
        stop._until = 0
        return write(what)

    monkeypatch.setattr(lab.tables, "write", write_and_stop)
    loop.run()
    started = [e for e in events(log) if e["event"] == "start"]
    assert len(started) == 1
    assert stop.waits == [0.0]


def test_one_leads_and_the_other_waits(lab: Lab, log: io.StringIO) -> None:
    first = Leadership(lab.tables, "first", lab.clock)
    first.tick()
    lab.open("s1", "acme", "blog", "tom")
    loop, _ = loop_for(lab, 10 * SECOND, holder="second")
    loop.run()
    assert [e["event"] for e in events(log)] == ["standby"]
    assert lab.simulation.live() == []
    loop, _ = loop_for(lab, 30 * SECOND, holder="third")
    loop.run()
    assert "leads" in [e["event"] for e in events(log)]
    assert len(lab.simulation.live()) == 1


def test_the_host_of_one_that_waits_may_declare_and_is_shown_nothing(lab: Lab, log: io.StringIO) -> None:
    Leadership(lab.tables, "first", lab.clock).tick()
    host = Told()
    loop, _ = loop_for(lab, 10 * SECOND, holder="second", host=host)
    loop.run()
    assert set(host.before_) == {frozenset()}
    assert host.rounds == 0
    host = Told()
    loop, _ = loop_for(lab, 30 * SECOND, holder="third", host=host)
    loop.run()
    assert None in host.before_
    assert host.rounds > 0


def test_it_gives_the_lease_up(lab: Lab, log: io.StringIO) -> None:
    loop, _ = loop_for(lab, SECOND)
    loop.run()
    lease = lab.tables.read_lease()
    assert lease is not None
    assert lease.holder == ""


def test_what_cannot_work_ends_it_at_the_start(ready: Account) -> None:
    done = ready.editctl("run", "--task-definition", "nope")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no ACTIVE task definition 'nope'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_quickly_and_well(ready: Account, number: signal.Signals) -> None:
    command = [sys.executable, "-c", "from controller.cli.main import main; main()", "run", "--log-format", "json"]
    env = {**os.environ, **ready.env, "AWS_REGION": "us-east-1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["event"] for _ in range(2)] == ["up", "leads"]
        process.send_signal(number)
        rest, _ = process.communicate(timeout=10)
        assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "down"


def test_a_namespace_without_kubernetes_is_refused(lab: Lab) -> None:
    done = lab.editctl("run", "--namespace", "here")
    assert done.exit_code == 1
    assert "error: --namespace is of objects, which are followed with --kubernetes only" in done.stderr
