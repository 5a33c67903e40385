"""WrongWorld: tables that were made anew, or another cluster, are acted on only when somebody says so."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from controller.aws.rows import to_item
from controller.aws.schema import create_tables
from controller.core.model import MINUTE, SECOND
from controller.core.whereabouts import Whereabouts, check, check_plan, differences
from controller.errors import PlanError, Throttled, WrongWorld
from controller.reconcile.leadership import Leadership
from controller.reconcile.loop import Loop
from tests.cli.lab import Account, Lab
from tests.cli.test_run import Clocked, events

FIRST = Whereabouts("arn:1", {"s": "1", "c": "2", "n": "3"})


# What differs


def test_nothing_differs_from_itself_and_from_nothing() -> None:
    assert differences(FIRST, FIRST) == ()
    check(None, FIRST)
    check(FIRST, FIRST)
    check_plan(FIRST, FIRST)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (Whereabouts("arn:2", FIRST.tables), "the cluster was arn:1, it is arn:2"),
        (Whereabouts("arn:1", {**FIRST.tables, "c": "9"}), "table 'c' is another one of that name: its id was 2"),
        (Whereabouts("arn:1", {"s": "1", "x": "2", "n": "3"}), "table 'x' is not among those seen first (s, c, n)"),
    ],
)
def test_each_difference_is_a_sentence(here: Whereabouts, said: str) -> None:
    assert differences(FIRST, here) == (said,)
    with pytest.raises(WrongWorld, match="WrongWorld: "):
        check(FIRST, here)
    with pytest.raises(PlanError):
        check_plan(FIRST, here)


# The commands


def made_anew(account: Account) -> None:
    """Delete the sessions table and make it again: the world in which nobody has a session."""
    account.clients.dynamodb.delete_table(TableName=account.names.sessions)  # type: ignore[attr-defined]
    create_tables(account.clients.dynamodb, account.names)


def a_container(account: Account) -> None:
    account.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    assert account.editctl("apply").exit_code == 0


def row(account: Account) -> object:
    name = to_item({"name": "world"})
    return account.clients.dynamodb.get_item(TableName=account.names.controller, Key=name).get("Item")


def test_a_plan_keeps_nothing_and_an_apply_does(ready: Account) -> None:
    assert ready.editctl("plan").exit_code == 0
    assert row(ready) is None
    assert ready.editctl("apply").exit_code == 0
    kept = row(ready)
    assert kept is not None
    assert ready.editctl("apply").exit_code == 0
    assert row(ready) == kept


@pytest.mark.parametrize("command", [("plan",), ("apply",), ("drain", "acme-blog-tom"), ("plan", "--out", "x")])
def test_tables_that_were_made_anew_stop_everything(
    ready: Account, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a_container(ready)
    made_anew(ready)
    ready.clock.step(hours=2)
    done = ready.editctl(*command)
    assert (done.exit_code, done.stdout) == (1, "")
    what, why, todo = [line for line in done.stderr.splitlines() if not line.startswith("profile")]
    assert what.startswith(f"error: WrongWorld: table '{ready.names.sessions}' is another one of that name: its id was")
    assert why.strip() == "these are not the tables and the cluster that were seen first: nothing is done by them"
    assert todo.endswith("editctl config accept")
    assert list(tmp_path.iterdir()) == []


def test_another_cluster(ready: Account) -> None:
    a_container(ready)
    ready.endpoint.ecs.call("CreateCluster", {"clusterName": "elsewhere"})
    done = ready.editctl("plan", "--cluster", "elsewhere")
    assert done.exit_code == 1
    assert "WrongWorld: the cluster was arn:aws:ecs:" in done.stderr


def test_accept_can_be_repeated_and_says_what_changes(ready: Account) -> None:
    a_container(ready)
    made_anew(ready)
    first = ready.editctl("config", "accept")
    assert first.exit_code == 0, first.output
    assert f"~ table '{ready.names.sessions}' is another one of that name" in first.stdout
    assert first.stdout.splitlines()[-1] == "Next: editctl plan"
    assert ready.editctl("plan").exit_code in (0, 2)
    second = ready.editctl("config", "accept")
    assert (second.exit_code, second.stdout.splitlines()[0]) == (0, "= the tables and the cluster are those seen first")


def test_a_row_that_cannot_be_read_is_no_permission(ready: Account) -> None:
    ready.put(ready.names.controller, {"name": "world", "cluster": 7})
    for command in ("plan", "apply"):
        done = ready.editctl(command)
        assert done.exit_code == 1
        assert "the row 'world' of the controller table cannot be read" in done.stderr
    assert ready.editctl("config", "accept").exit_code == 0
    assert ready.editctl("plan").exit_code == 0


# run


class Checked:
    """A check that says what a test wants, and when it was asked."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.error: Exception | None = None
        self.at: list[int] = []

    def __call__(self) -> None:
        self.at.append(self.lab.clock())
        if self.error:
            raise self.error


def run_for(lab: Lab, check: Checked, milliseconds: int) -> None:
    leadership = Leadership(lab.tables, "a", lab.clock)
    stop = Clocked(lab, milliseconds)
    reconciler = lab.simulation.new_controller()
    Loop(reconciler, leadership, stop, lab.clock, 10 * SECOND, check=check, resync=10 * MINUTE).run()


def test_run_waits_and_does_nothing_until_it_is_accepted(lab: Lab, log: io.StringIO) -> None:
    lab.open("s1", "acme", "blog", "tom")
    check = Checked(lab)
    check.error = WrongWorld("WrongWorld: table 's' is another one", "nothing is done", "editctl config accept")
    run_for(lab, check, 5 * MINUTE)
    assert lab.simulation.live() == []
    assert lab.tables.calls["read_sessions"] == 0
    said = [e for e in events(log) if e["event"] == "error"]
    assert {e["reason"] for e in said} == {"WrongWorld"}
    assert len(said) < 15
    check.error = None
    run_for(lab, check, MINUTE)
    assert len(lab.simulation.live()) == 1


def test_run_looks_again_at_each_resync(lab: Lab, log: io.StringIO) -> None:
    check = Checked(lab)
    run_for(lab, check, 35 * MINUTE)
    assert len(check.at) == 4
    assert all(9 * MINUTE < b - a < 11 * MINUTE for a, b in zip(check.at, check.at[1:], strict=False))


def test_whoever_has_seen_it_right_is_not_stopped_by_a_look_that_fails(lab: Lab, log: io.StringIO) -> None:
    check = Checked(lab)
    leadership = Leadership(lab.tables, "a", lab.clock)
    stop = Clocked(lab, 15 * MINUTE)
    loop = Loop(
        lab.simulation.new_controller(),
        leadership,
        stop,
        lab.clock,
        10 * SECOND,
        check=check,
        resync=10 * MINUTE,
    )
    loop._turn()
    check.error = Throttled("DescribeTable was throttled", code="ThrottlingException")
    lab.clock.step(minutes=11)
    lab.open("s1", "acme", "blog", "tom")
    loop.run()
    assert len(check.at) == 2
    assert len(lab.simulation.live()) == 1


def test_a_plan_goes_on_when_that_cannot_be_asked(lab: Lab) -> None:
    lab.tables.fail("preflight", Throttled("DescribeTable was throttled", code="ThrottlingException"), times=3)
    done = lab.editctl("plan")
    assert done.exit_code == 0
    assert done.stderr == (
        "warning: whether these are the tables and the cluster seen first is not known: DescribeTable was throttled\n"
    )
    assert lab.editctl("plan", "--out", "-").exit_code == 1
    assert lab.editctl("apply").exit_code == 1
