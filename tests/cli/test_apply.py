"""`editctl apply`: what it waits for, what it leaves alone, and how it says so."""

from __future__ import annotations

import pytest

from controller.assembly import Assembly
from controller.config import Config
from controller.core.model import HOUR, MINUTE, ContainerStatus
from controller.errors import AccessDenied, ConfigError, Throttled
from tests.cli.lab import Account, Lab, run


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("  ")]


def test_a_start_is_over_when_the_container_runs(lab: Lab) -> None:
    tom = lab.open("s1", "acme", "blog", "tom")
    done = lab.editctl("apply")
    assert done.exit_code == 0
    [line] = lines_of(done.stdout)
    assert line.startswith("  + start  acme-blog-tom  SessionActive  task ")
    assert "running in" in line
    assert "Done: 1 start." in done.stdout
    record = lab.tables.get_record(tom.container_id)
    assert record is not None
    assert (record.status, record.container_ip) == (ContainerStatus.RUNNING, "127.1.0.1")


def test_a_drain_is_over_when_the_task_has_stopped(lab: Lab) -> None:
    tom = lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(hours=2)
    done = lab.editctl("apply")
    assert done.exit_code == 0
    [line] = lines_of(done.stdout)
    assert line.startswith("  - drain  acme-blog-tom  Idle  stopped after")
    assert lab.simulation.live(tom.container_id) == []
    assert "Done: 1 drain." in done.stdout


def test_steps_are_said_on_standard_error(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    steps = [line.split(":")[0] for line in lab.editctl("apply").stderr.splitlines()]
    assert steps == ["claim acme-blog-tom done", "correct acme-blog-tom done"]


def test_nothing_to_do_is_0(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("apply")
    assert done.exit_code == 0
    assert "Nothing to do." in done.stdout
    assert done.stdout.splitlines()[-1] == "To see why: editctl explain acme-blog-tom"


def test_an_orphan_gets_its_two_looks_at_once(lab: Lab) -> None:
    tom = lab.open("s1", "acme", "blog", "tom")
    lab.editctl("apply")
    for table in ("sessions", "records"):
        lab.tables.rows[table].clear()
    lab.clock.step(minutes=6)
    done = lab.editctl("apply")
    assert done.exit_code == 0, done.output
    assert "  - drain  acme-blog-tom  Orphaned  stopped after" in done.stdout
    assert lab.simulation.live(tom.container_id) == []


def test_what_the_plan_did_not_show_is_not_begun(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.open("s1", "acme", "blog", "tom")
    app = lab.app()
    wait = app.wait

    def wait_and_see(seconds: float) -> None:
        if lab.tables.get_session("s2") is None:
            lab.open("s2", "acme", "shop", "eva")
        wait(seconds)

    monkeypatch.setattr(app, "wait", wait_and_see)
    done = run(app, "apply")
    assert done.exit_code == 0
    assert lab.simulation.live("acme-shop-eva") == []
    assert done.stdout.splitlines()[-1] == "By now 1 more change would follow: editctl plan"


def test_no_wait_takes_the_first_step(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    before = lab.clock()
    done = lab.editctl("apply", "--no-wait")
    assert done.exit_code == 0
    assert "Begun: 1 start." in done.stdout
    assert lab.clock() == before
    assert len(lab.simulation.live("acme-blog-tom")) == 1


def test_what_takes_too_long_is_1(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.simulation.ecs.quirks.describe_lag_ms = HOUR
    done = lab.editctl("apply", "--wait", "30s")
    assert done.exit_code == 1
    assert "failed: not done within 30 s; so far: task " in done.stdout
    assert done.stdout.splitlines()[-1] == "To see why: editctl explain acme-blog-tom"


def test_a_launch_that_fails_is_1_and_not_tried_for_ever(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.simulation.ecs.faults.refuse_placement("RESOURCE:CPU", times=50)
    done = lab.editctl("apply")
    assert done.exit_code == 1
    assert "  ! start  acme-blog-tom  SessionActive  failed: failure 1 in a row: RESOURCE:CPU" in done.stdout
    assert lab.simulation.ecs.calls["RunTask"] == 1


def test_a_refused_write_ends_that_action_alone(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.open("s2", "acme", "shop", "eva")
    denied = AccessDenied("UpdateItem is not allowed", "no such policy", "allow it", code="AccessDeniedException")
    lab.tables.fail("write", denied)
    done = lab.editctl("apply")
    assert done.exit_code == 1
    assert "Done: 1 start. Failed: 1 start." in done.stdout
    assert lab.tables.calls["write"] < 10


def test_what_may_pass_is_tried_again(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.tables.fail("write", Throttled("UpdateItem was throttled", code="ThrottlingException"), times=2)
    done = lab.editctl("apply")
    assert done.exit_code == 0, done.output
    assert "Done: 1 start." in done.stdout


def test_somebody_who_comes_back_keeps_the_container(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    tom = lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(hours=2)
    app = lab.app()
    look = lab.tables.look

    def look_late(container_ids: object) -> object:
        lab.simulation.registry.touch("s1")
        return look(container_ids)  # type: ignore[arg-type]

    monkeypatch.setattr(lab.tables, "look", look_late)
    done = run(app, "apply")
    assert done.exit_code == 0
    assert "  ! drain  acme-blog-tom  Idle  skipped: runs on (InUse)" in done.stdout
    assert len(lab.simulation.live(tom.container_id)) == 1


def test_what_is_held_or_deferred_is_named(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    assert lab.editctl("hold", "acme-blog-tom", "--reason", "looking at it", "--by", "ann").exit_code == 0
    done = lab.editctl("apply")
    assert done.exit_code == 0
    assert "  ! hold  acme-blog-tom  Held  no start: by ann: looking at it" in done.stdout
    assert "Nothing to do. 1 held or deferred." in done.stdout


def test_what_starts_need_is_checked_before_anything_is_claimed(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.problems = (ConfigError("no subnets are set", "tasks need one", "set EDITCTL_SUBNETS"),)
    done = lab.editctl("apply")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: no subnets are set\n  tasks need one\n  set EDITCTL_SUBNETS\n"
    assert lab.tables.calls["write"] == 0


def test_breaking_off_leaves_it_on_record(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.open("s1", "acme", "blog", "tom")
    app = lab.app()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "wait", interrupt)
    done = run(app, "apply")
    assert done.exit_code == 1
    assert "Begun: 1 start." in done.stdout
    assert lab.editctl("apply").exit_code == 0


@pytest.mark.parametrize("wait", ["5", "soon", "-1m"])
def test_a_wait_carries_a_unit(lab: Lab, wait: str) -> None:
    done = lab.editctl("apply", f"--wait={wait}")
    assert done.exit_code == 1
    assert "durations carry a unit: 90s, 20m, 2h" in done.stderr


def test_the_whole_way_through_boto3(account: Account) -> None:
    assert account.editctl("tables", "create").exit_code == 0
    assert (
        account.editctl("session", "open", "s1", *["--client", "acme", "--project", "blog", "--user", "tom"]).exit_code
        == 0
    )
    assert account.editctl("plan").exit_code == 2
    done = account.editctl("apply")
    assert (done.exit_code, "Done: 1 start." in done.stdout) == (0, True), done.output
    assert account.editctl("plan").exit_code == 0
    assert "Running" in account.editctl("status").stdout
    account.clock.step(ms=21 * MINUTE)
    assert account.editctl("plan").exit_code == 2
    done = account.editctl("apply")
    assert (done.exit_code, "Done: 1 drain." in done.stdout) == (0, True), done.output
    assert account.editctl("plan").exit_code == 0


def test_an_assembly_connects_only_when_it_must(account: Account) -> None:
    assembly = Assembly(Config())
    assert assembly.policy.idle_timeout == 20 * MINUTE
    assert assembly._clients is None
