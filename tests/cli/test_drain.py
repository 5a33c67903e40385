"""`editctl drain` and `restart`: what is refused, what is waited for, and what follows."""

from __future__ import annotations

import pytest

from controller.core.model import HOUR, ContainerStatus, DrainReason
from tests.cli.lab import Account, Lab
from tests.simulation import DEFINITION

TOM = "acme-blog-tom"


def status_of(lab: Lab, container_id: str = TOM) -> ContainerStatus | None:
    record = lab.tables.get_record(container_id)
    assert record is not None
    return record.status


def new_revision(lab: Lab) -> None:
    """Register a revision, and let what was known of the old one grow old."""
    lab.simulation.ecs.call("RegisterTaskDefinition", DEFINITION)
    lab.clock.step(minutes=2)


def quiet(lab: Lab, *users: str) -> None:
    """Let these have a container in which nobody is active, and which is not idle yet."""
    for user in users:
        lab.running(f"s-{user}", "acme", "blog", user)
        lab.simulation.registry.release(f"s-{user}")
    lab.simulation.settle()


# drain


def test_a_quiet_container_is_drained_before_its_time(lab: Lab) -> None:
    quiet(lab, "tom")
    assert lab.editctl("plan").exit_code == 0
    done = lab.editctl("drain", TOM)
    assert done.exit_code == 0, done.output
    assert f"  - drain  {TOM}  Requested  stopped after" in done.stdout
    assert "Done: 1 drain." in done.stdout
    assert lab.simulation.live(TOM) == []
    assert status_of(lab) is ContainerStatus.TERMINATED


def test_it_can_be_repeated(lab: Lab) -> None:
    quiet(lab, "tom")
    lab.editctl("drain", TOM)
    writes = lab.simulation.writes()
    done = lab.editctl("drain", TOM)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, f"nothing runs: {TOM}")
    assert lab.simulation.writes() == writes


def test_an_active_session_refuses_it(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    writes = lab.simulation.writes()
    done = lab.editctl("drain", TOM)
    assert (done.exit_code, done.stdout) == (1, "")
    what, why, todo = done.stderr.splitlines()
    assert what == f"error: {TOM} has 1 active session"
    assert "a new container started for them" in why
    assert "--even-if-active" in todo
    assert lab.simulation.writes() == writes


def test_even_if_active_stops_it_and_the_next_plan_starts_a_new_one(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("drain", TOM, "--even-if-active")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "By now 1 more change would follow: editctl plan"
    assert lab.simulation.live(TOM) == []
    assert f"  + start  {TOM}  SessionActive" in lab.editctl("plan").stdout


def test_without_waiting_it_is_asked_for(lab: Lab) -> None:
    quiet(lab, "tom")
    done = lab.editctl("drain", TOM, "--no-wait")
    assert done.exit_code == 0
    assert "Begun: 1 drain." in done.stdout
    record = lab.tables.get_record(TOM)
    assert record is not None
    assert record.drain is not None
    assert (record.status, record.drain.reason) == (ContainerStatus.DRAINING, DrainReason.REQUESTED)
    lab.simulation.registry.open("s9", record.identity)  # type: ignore[arg-type]
    lab.simulation.round()
    assert status_of(lab) is not ContainerStatus.RUNNING, "only a hold cancels it"
    assert lab.editctl("drain", TOM).exit_code == 0


def test_who_comes_in_this_moment_is_not_interrupted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(lab, "tom")
    get_record = lab.tables.get_record

    def get_late(container_id: str) -> object:
        if not lab.simulation.sessions(container_id):
            record = get_record(container_id)
            assert record is not None
            assert record.identity is not None
            lab.simulation.registry.open("s9", record.identity)
        return get_record(container_id)

    monkeypatch.setattr(lab.tables, "get_record", get_late)
    done = lab.editctl("drain", TOM)
    assert done.exit_code == 1
    assert f"error: {TOM} has changed in this moment" in done.stderr
    assert len(lab.simulation.live(TOM)) == 1


@pytest.mark.parametrize(("args", "todo"), [(("hold", TOM), f"editctl unhold {TOM}"), (("pause",), "editctl unpause")])
def test_nothing_is_drained_under_a_hold(lab: Lab, args: tuple[str, ...], todo: str) -> None:
    quiet(lab, "tom")
    lab.editctl(*args, "--reason", "demo", "--by", "ann")
    done = lab.editctl("drain", TOM, "--even-if-active")
    assert done.exit_code == 1
    assert "by ann: demo" in done.stderr
    assert todo in done.stderr
    assert status_of(lab) is ContainerStatus.RUNNING


def test_a_launch_whose_answer_is_open_is_left_alone(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.tables.lose_reply("write", times=1)
    lab.editctl("apply", "--no-wait")
    record = lab.tables.get_record(TOM)
    assert record is not None
    assert record.awaits_arn
    done = lab.editctl("drain", TOM, "--even-if-active")
    assert done.exit_code == 1
    assert "is being launched in this moment" in done.stderr


def test_a_task_that_no_record_names_is_adopted_first(lab: Lab) -> None:
    identity = lab.open("s1", "acme", "blog", "tom")
    lab.simulation.launch(identity)
    done = lab.editctl("drain", TOM, "--even-if-active")
    assert done.exit_code == 1
    assert "is in no record yet" in done.stderr
    assert "editctl apply" in done.stderr


@pytest.mark.parametrize("command", ["drain", "restart"])
def test_an_unknown_container(lab: Lab, command: str) -> None:
    quiet(lab, "tom")
    done = lab.editctl(command, "acme-blog-tim")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"did you mean {TOM}?" in done.stderr


# restart


def test_a_restart_brings_the_newest_revision(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    new_revision(lab)
    done = lab.editctl("restart", TOM, "--even-if-active")
    assert done.exit_code == 0, done.output
    assert "Done: 1 drain, 1 start." in done.stdout
    [task] = lab.simulation.live(TOM)
    assert task["taskDefinitionArn"].endswith(":2")
    assert status_of(lab) is ContainerStatus.RUNNING


def test_a_restart_of_what_nobody_wants_is_a_drain(lab: Lab) -> None:
    quiet(lab, "tom")
    done = lab.editctl("restart", TOM)
    assert done.exit_code == 0, done.output
    assert "Done: 1 drain." in done.stdout
    assert lab.simulation.live(TOM) == []


def test_outdated_ones_are_shown_and_restarted(lab: Lab) -> None:
    quiet(lab, "tom", "eva")
    lab.running("s1", "acme", "shop", "ann")
    assert "utdated" not in lab.editctl("status").stdout
    new_revision(lab)
    shown = lab.editctl("status").stdout
    assert shown.count("Outdated") == 3
    assert "3 outdated (editctl restart --outdated --idle-only)" in shown
    assert "Outdated: it runs webordinary-edit:1, a new one would run webordinary-edit:2" in (
        lab.editctl("explain", TOM).stdout
    )
    refused = lab.editctl("restart", "--outdated")
    assert refused.exit_code == 1
    assert "error: 1 outdated container of 3 has an active session" in refused.stderr
    done = lab.editctl("restart", "--outdated", "--idle-only")
    assert done.exit_code == 0, done.output
    assert "Done: 2 drains." in done.stdout
    assert done.stdout.splitlines()[-1] == "1 container stays outdated: 1 with an active session"
    assert [len(lab.simulation.live(i)) for i in (TOM, "acme-blog-eva", "acme-shop-ann")] == [0, 0, 1]


def test_the_stop_budget_holds_for_operators_too(lab: Lab) -> None:
    quiet(lab, *(f"user{n:02}" for n in range(12)))
    new_revision(lab)
    done = lab.editctl("restart", "--outdated", "--idle-only", "--wait", "2m")
    assert done.exit_code == 0, done.output
    assert "Done: 10 drains." in done.stdout
    assert "2 containers stay outdated: 2 for the stop budget (repeat this in 5 minutes)" in done.stdout
    lab.clock.step(minutes=6)
    assert "Done: 2 drains." in lab.editctl("restart", "--outdated", "--idle-only").stdout
    assert "all run webordinary-edit:2" in lab.editctl("restart", "--outdated", "--idle-only").stdout


@pytest.mark.parametrize("args", [(), (TOM, "--outdated"), (TOM, "--idle-only")])
def test_restart_is_told_which(lab: Lab, args: tuple[str, ...]) -> None:
    done = lab.editctl("restart", *args)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 3


def test_through_boto3(ready: Account) -> None:
    ready.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    assert ready.editctl("apply").exit_code == 0
    ready.clock.step(ms=HOUR // 60)
    done = ready.editctl("restart", TOM, "--even-if-active")
    assert (done.exit_code, "Done: 1 drain, 1 start." in done.stdout) == (0, True), done.output
