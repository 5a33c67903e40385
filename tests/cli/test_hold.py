"""`editctl hold`, `unhold`, `pause` and `unpause`."""

from __future__ import annotations

import re
from typing import Any

import pytest

from controller.core.model import HOUR
from tests.cli.lab import Account, Lab


def test_a_hold_keeps_a_container_and_is_seen(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("hold", "acme-blog-tom", "--for", "3h", "--reason", "demo", "--by", "ann")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"held until 13:00:\d\d: acme-blog-tom", first)
    assert second == "To end it earlier: editctl unhold acme-blog-tom"
    lab.clock.step(hours=2)
    assert "  ! hold  acme-blog-tom  Held  no drain: by ann: demo" in lab.editctl("plan").stdout
    assert "held until 13:00" in lab.editctl("status").stdout
    assert lab.editctl("unhold", "acme-blog-tom").stdout.startswith("no longer held: acme-blog-tom\n")
    assert lab.editctl("plan").exit_code == 2


def test_unhold_can_be_repeated(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("unhold", "acme-blog-tom")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "not held: acme-blog-tom")


@pytest.mark.parametrize("command", [("hold", "acme-blog-tim", "--reason", "x"), ("unhold", "acme-blog-tim")])
def test_an_unknown_container(lab: Lab, command: tuple[str, ...]) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl(*command)
    assert done.exit_code == 1
    assert "did you mean acme-blog-tom?" in done.stderr


def test_a_container_can_be_held_before_its_first_session(lab: Lab) -> None:
    done = lab.editctl("hold", "acme-blog-tom", "--reason", "not before the migration", "--by", "ann")
    assert done.exit_code == 0, done.output
    lab.open("s1", "acme", "blog", "tom")
    assert "  ! hold  acme-blog-tom  Held  no start: by ann: not before the migration" in lab.editctl("plan").stdout
    again = lab.editctl("hold", "acme-blog-tom", "--reason", "still not", "--by", "ann")
    assert again.exit_code == 0
    assert lab.editctl("unhold", "acme-blog-tom").stdout.startswith("no longer held")
    assert lab.editctl("plan").exit_code == 2


def test_an_id_that_cannot_be_split_is_held_by_its_parts(lab: Lab) -> None:
    done = lab.editctl("hold", "acme-my-blog-tom", "--reason", "x")
    assert (done.exit_code, "--client, --project and --user" in done.stderr) == (1, True)
    parts = ("--client", "acme", "--project", "my-blog", "--user", "tom")
    done = lab.editctl("hold", *parts, "--reason", "x")
    assert (done.exit_code, "acme-my-blog-tom" in done.stdout) == (0, True), done.output
    assert lab.editctl("hold", "acme-my-blog-tom", *parts, "--reason", "y").exit_code == 0
    done = lab.editctl("hold", "acme-blog-tom", *parts, "--reason", "y")
    assert (done.exit_code, "theirs is acme-my-blog-tom" in done.stderr) == (1, True)
    other = ("--client", "acme-my", "--project", "blog", "--user", "tom")
    done = lab.editctl("hold", *other, "--reason", "y")
    assert (done.exit_code, "belongs to acme + my-blog + tom" in done.stderr) == (1, True)


def test_a_session_without_a_record_is_enough_to_be_held(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tim")
    lab.tables.put_original_session("o1", "acme-blog-tom", lab.clock())
    assert lab.editctl("unhold", "acme-blog-tom").stdout.startswith("not held")
    assert lab.editctl("hold", "acme-blog-tom", "--reason", "x").exit_code == 0
    assert "  ! hold   acme-blog-tom  Held" in lab.editctl("plan").stdout


def test_somebody_makes_the_record_in_this_moment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    write = lab.tables.write

    def write_late(what: Any) -> Any:
        monkeypatch.setattr(lab.tables, "write", write)
        lab.open("s1", "acme", "blog", "tom")
        return write(what)

    monkeypatch.setattr(lab.tables, "write", write_late)
    assert lab.editctl("hold", "acme-blog-tom", "--reason", "x").exit_code == 0
    record = lab.tables.get_record("acme-blog-tom")
    assert record is not None
    assert (record.session_count, record.hold is not None) == (1, True)


def test_a_hold_names_its_container(lab: Lab) -> None:
    done = lab.editctl("hold", "--reason", "x")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (1, "error: missing argument 'CONTAINER'")


@pytest.mark.parametrize("for_", ["30s", "8d"])
def test_a_hold_has_its_limits(lab: Lab, for_: str) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("hold", "acme-blog-tom", "--for", for_, "--reason", "x")
    assert done.exit_code == 1
    assert "it may be 60 s to 7 d" in done.stderr


def test_a_reason_is_needed(lab: Lab) -> None:
    done = lab.editctl("pause")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: missing option '--reason'\n")


def test_pause_and_unpause(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    assert lab.editctl("pause", "--reason", "restore", "--by", "ann").exit_code == 0
    done = lab.editctl("plan")
    assert done.exit_code == 0
    assert "  ! hold  acme-blog-tom  Paused  no start: by ann: restore" in done.stdout
    assert lab.editctl("unpause").stdout.splitlines()[0] == "no longer paused"
    assert lab.editctl("unpause").stdout.splitlines()[0] == "not paused"
    assert lab.editctl("plan").exit_code == 2


def test_through_boto3(ready: Account) -> None:
    assert ready.editctl("hold", "acme-site-eva", "--reason", "not yet").exit_code == 0
    assert ready.editctl("unhold", "acme-site-eva").stdout.startswith("no longer held")
    ready.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    assert ready.editctl("hold", "acme-blog-tom", "--reason", "x").exit_code == 0
    assert ready.editctl("plan").exit_code == 0
    ready.clock.step(ms=5 * HOUR)
    assert ready.editctl("unhold", "acme-blog-tom").stdout.startswith("not held")
    assert ready.editctl("pause", "--reason", "x").exit_code == 0
    assert ready.editctl("plan").stdout.startswith("! everything is paused until")
    assert ready.editctl("unpause").exit_code == 0
