"""`plan --out`, `apply FILE` and `plan --at`: what was agreed to is done as far as it still holds."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from controller.cli.main import cli
from controller.cli.options import moment_ahead
from controller.cli.screen import Screen
from controller.core.model import HOUR, MINUTE
from controller.errors import ConfigError
from tests.cli.lab import Account, Lab
from tests.cli.schema import problems
from tests.fakes.clock import START_MS

TOM = "acme-blog-tom"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "monday plan"


def a_start_and_a_drain(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(hours=2)
    lab.open("s2", "acme", "shop", "eva")


def test_it_is_saved_as_documented_and_says_how_to_apply_it(lab: Lab, file: Path) -> None:
    a_start_and_a_drain(lab)
    writes = lab.simulation.writes()
    done = lab.editctl("plan", "--out", str(file))
    assert done.exit_code == 2
    assert done.stdout.splitlines()[-1] == f"Saved. To do just this: editctl apply '{file}'"
    document = json.loads(file.read_text(encoding="utf-8"))
    assert problems(document, "saved-plan") == []
    assert [a["action"] for a in document["actions"]] == ["start", "drain"]
    assert lab.simulation.writes() == writes
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_what_still_holds_is_done_and_nothing_else(lab: Lab, file: Path) -> None:
    a_start_and_a_drain(lab)
    lab.editctl("plan", "--out", str(file))
    lab.clock.step(minutes=5)
    lab.open("s3", "acme", "site", "ann")
    done = lab.editctl("apply", str(file))
    assert done.exit_code == 0, done.output
    assert "Done: 1 start, 1 drain." in done.stdout
    assert lab.simulation.live("acme-site-ann") == []
    assert lab.editctl("plan").exit_code == 2


def test_what_the_world_has_passed_by_is_named(lab: Lab, file: Path) -> None:
    a_start_and_a_drain(lab)
    lab.editctl("plan", "--out", str(file))
    lab.clock.step(minutes=1)
    lab.simulation.registry.touch("s1")
    done = lab.editctl("apply", str(file))
    assert done.exit_code == 0, done.output
    [line] = [text for text in done.stdout.splitlines() if "stale" in text and text.startswith("  !")]
    assert line.startswith(f"  ! drain  {TOM}")
    assert "stale: activeSessions 0 -> 1, lastActivity 10:00:00 -> 12:01:" in line
    assert "now keep (InUse): 1 active session" in line
    assert "Done: 1 start. Skipped as stale: 1 drain." in done.stdout
    assert len(lab.simulation.live(TOM)) == 1


def test_a_second_apply_of_it_finds_everything_stale(lab: Lab, file: Path) -> None:
    a_start_and_a_drain(lab)
    lab.editctl("plan", "--out", str(file))
    assert lab.editctl("apply", str(file)).exit_code == 0
    writes = lab.simulation.writes()
    done = lab.editctl("apply", str(file))
    assert done.exit_code == 0
    assert "Nothing to do. Skipped as stale: 1 start, 1 drain." in done.stdout
    assert lab.simulation.writes() == writes


def test_it_goes_through_a_pipe(lab: Lab) -> None:
    a_start_and_a_drain(lab)
    saved = lab.editctl("plan", "--out", "-")
    assert problems(json.loads(saved.stdout), "saved-plan") == []
    done = CliRunner().invoke(cli, ["apply", "-"], obj=lab.app(), input=saved.stdout)
    assert (done.exit_code, "Done: 1 start, 1 drain." in done.stdout) == (0, True), done.output


def edited(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 2}, "it is of version 2, this editctl reads version 1"),
        ({"kind": None}, "it is not a saved plan (the output of plan --json is not one)"),
        ({"actions": {}}, "its actions is missing or of the wrong type"),
        ({"actions": [7]}, "its action 1 is not an object"),
        ({"tables": {"a": 1}}, "its a is missing or of the wrong type"),
        ({"madeAt": "yesterday"}, "its madeAt is no time: 'yesterday'"),
        ({"cluster": "arn of another"}, "the cluster was arn of another, it is arn of webordinary"),
        ({"tables": {"t": "1"}}, "is not among those seen first (t)"),
    ],
)
def test_a_plan_that_is_none_or_of_another_world(lab: Lab, file: Path, changes: dict[str, Any], why: str) -> None:
    a_start_and_a_drain(lab)
    lab.editctl("plan", "--out", str(file))
    edited(file, **changes)
    writes = lab.simulation.writes()
    done = lab.editctl("apply", str(file))
    assert (done.exit_code, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert why in lines[1]
    assert "editctl plan --out FILE" in lines[2]
    assert lab.simulation.writes() == writes


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "null", "[" * 100_000])
def test_a_file_that_is_no_plan(lab: Lab, file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    done = lab.editctl("apply", str(file))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: '{file}' is no plan that can be applied\n")
    assert len(done.stderr.splitlines()) == 3


def test_files_that_cannot_be_read_or_written(lab: Lab, tmp_path: Path) -> None:
    done = lab.editctl("apply", str(tmp_path / "none"))
    assert (done.exit_code, "No such file or directory" in done.stderr) == (1, True)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert lab.editctl("apply", str(tmp_path / "bytes")).exit_code == 1
    done = lab.editctl("plan", "--out", str(tmp_path / "no" / "folder"))
    assert (done.exit_code, "cannot be written" in done.stderr) == (1, True)


@pytest.mark.parametrize("args", [("--at", "+5m", "--out", "x"), ("--json", "--out", "-")])
def test_what_does_not_go_together(lab: Lab, args: tuple[str, ...]) -> None:
    done = lab.editctl("plan", *args)
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 3)
    assert "do not go together" in done.stderr


def test_through_boto3(ready: Account, file: Path) -> None:
    ready.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    assert ready.editctl("plan", "--out", str(file)).exit_code == 2
    assert ready.editctl("apply", str(file)).exit_code == 0
    other = Account(ready.endpoint, ready.clients, ready.clock)
    other.there()
    done = other.editctl("apply", str(file))
    assert done.exit_code == 1
    assert "error: the saved plan is of another world" in done.stderr


# Forecasts


def test_a_forecast_says_that_it_is_one_and_changes_nothing(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    writes = lab.simulation.writes()
    assert lab.editctl("plan").exit_code == 0
    done = lab.editctl("plan", "--at", "+30m")
    assert done.exit_code == 2
    assert "Forecast for 10:3" in done.stdout
    assert "in 30 min: if until then nobody does anything, editctl neither." in done.stdout
    assert f"  - drain  {TOM}  Idle  1 open session, quiet for 30 min" in done.stdout
    assert done.stdout.splitlines()[-1] == "What is due now: editctl plan"
    assert lab.simulation.writes() == writes
    assert lab.editctl("plan", "--at", "+5m").exit_code == 0


def test_a_forecast_as_json(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    document = json.loads(lab.editctl("plan", "--at", "11:00", "--json").stdout)
    assert problems(document, "plan") == []
    assert document["observedAt"].startswith("2026-03-02T10:00:")
    assert document["forecastFor"] == "2026-03-02T11:00:00.000Z"
    assert document["summary"]["drain"] == 1
    assert json.loads(lab.editctl("plan", "--json").stdout)["forecastFor"] is None


def test_a_forecast_takes_the_second_look_for_granted(lab: Lab) -> None:
    lab.simulation.launch(lab.open("s1", "acme", "blog", "tom"))
    lab.tables.delete_row("sessions", "s1")
    lab.tables.delete_row("records", TOM)
    assert f"  - drain  {TOM}  Orphaned" in lab.editctl("plan", "--at", "+10m").stdout


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("+20m", 20 * MINUTE),
        ("+1h30m", 90 * MINUTE),
        ("10:20", 20 * MINUTE),
        ("10:20:30", 20 * MINUTE + 30_000),
        ("09:00", 23 * HOUR),
        ("2026-03-02 12:00", 2 * HOUR),
        ("2026-03-02T12:00:00Z", 2 * HOUR),
        ("2026-03-02T12:00:00+01:00", HOUR),
    ],
)
def test_when(text: str, ahead: int) -> None:
    assert moment_ahead(text, START_MS, UTC) == START_MS + ahead


@pytest.mark.parametrize("text", ["soon", "", "+", "+5", "25:00", "2026-03-01", "2026-03-02 09:00", "+40d", "+0s"])
def test_when_it_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError):
        moment_ahead(text, START_MS, UTC)


def test_a_wrong_time_is_three_lines(lab: Lab) -> None:
    done = lab.editctl("plan", "--at", "soon", screen=Screen(80))
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 3)
    assert done.stderr.startswith("error: --at is 'soon'\n")
