"""`editctl session`."""

from __future__ import annotations

import json

import pytest

from tests.cli.lab import Lab, run
from tests.cli.schema import problems

TOM = ("--client", "acme", "--project", "blog", "--user", "tom")


def test_open_can_be_repeated(lab: Lab) -> None:
    first, second = lab.editctl("session", "open", "s1", *TOM), lab.editctl("session", "open", "s1", *TOM)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.splitlines() == ["session s1 is open on acme-blog-tom", "Next: editctl plan"]
    assert "was open already" in second.stdout
    record = lab.tables.get_record("acme-blog-tom")
    assert record is not None
    assert record.session_count == 1


def test_open_on_another_container_is_refused(lab: Lab) -> None:
    lab.editctl("session", "open", "s1", *TOM)
    done = lab.editctl("session", "open", "s1", "--client", "acme", "--project", "shop", "--user", "tom")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: session ")


def test_queues_are_kept(lab: Lab) -> None:
    lab.editctl("session", "open", "s1", *TOM, "--input-queue-url", "http://q/in", "--output-queue-url", "http://q/out")
    session = lab.tables.get_session("s1")
    assert session is not None
    assert (session.input_queue_url, session.output_queue_url) == ("http://q/in", "http://q/out")


def test_touch_moves_the_activity(lab: Lab) -> None:
    lab.editctl("session", "open", "s1", *TOM)
    lab.clock.step(minutes=5)
    assert lab.editctl("session", "touch", "s1").exit_code == 0
    session = lab.tables.get_session("s1")
    assert session is not None
    assert session.last_activity == lab.clock()


def test_touch_never_revives(lab: Lab) -> None:
    done = lab.editctl("session", "touch", "s9")
    assert done.exit_code == 1
    assert "error: session 's9' is not open" in done.stderr


def test_release_can_be_repeated(lab: Lab) -> None:
    lab.editctl("session", "open", "s1", *TOM)
    first, second = lab.editctl("session", "release", "s1"), lab.editctl("session", "release", "s1")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == "session s1 is released; its container runs on for 20 min\n"
    assert second.stdout == "session s1 was not open\n"


def test_list(lab: Lab) -> None:
    lab.editctl("session", "open", "s1", *TOM)
    lab.clock.step(hours=1)
    lab.editctl("session", "open", "s2", "--client", "acme", "--project", "shop", "--user", "eva")
    lab.tables.put_original_session("o1", "acme-blog-tom", lab.clock())
    lines = lab.editctl("session", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SESSION", "o1", "s2", "s1", "3"]
    assert lines[-1] == "3 open sessions, 2 active"
    assert "active, original" in lines[1]
    few = lab.editctl("session", "list", "--container", "acme-shop-eva").stdout
    assert few.splitlines()[-1] == "1 open session, 1 active"


def test_list_on_bad_sight_is_an_error(lab: Lab) -> None:
    lab.tables.fail("read_sessions")
    done = lab.editctl("session", "list")
    assert (done.exit_code, done.stdout) == (1, "")


def test_what_scripts_read_is_as_documented(lab: Lab) -> None:
    opened = json.loads(lab.editctl("session", "open", "s1", *TOM, "--json").stdout)
    assert problems(opened, "session-open") == []
    assert opened["opened"]
    lab.tables.put_original_session("o1", "acme-blog-tom", lab.clock())
    assert problems(json.loads(lab.editctl("session", "list", "--json").stdout), "session-list") == []
    lab.simulation.settle()
    got = json.loads(lab.editctl("session", "get", "acme-blog-tom", "--json").stdout)
    assert problems(got, "session-get") == []
    assert got["containerIp"] == "127.1.0.1"


def test_get_waits_for_the_controller(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    app = lab.app()
    wait = app.wait

    def wait_and_run(seconds: float) -> None:
        lab.simulation.round()
        wait(seconds)

    monkeypatch.setattr(app, "wait", wait_and_run)
    done = run(app, "session", "get", *TOM)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split()[:3] == ["acme-blog-tom", "Running", "127.1.0.1"]


def test_get_without_a_controller_says_so(lab: Lab) -> None:
    done = lab.editctl("session", "get", "acme-blog-tom", "--within", "5s")
    assert done.exit_code == 1
    assert "is a controller running?" in done.stderr
    assert "  editctl explain acme-blog-tom" in done.stderr


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("a-b-c-d",), "'a-b-c-d' can be read in more than one way, or in none"),
        (("--client", "a"), "--project and --user are missing"),
        ((), "--client and --project and --user are missing"),
        (("--client", "a", "--project", "b", "--user", "c\n"), "userId 'c\\n' has a control character"),
    ],
)
def test_get_needs_to_know_whose(lab: Lab, args: tuple[str, ...], what: str) -> None:
    done = lab.editctl("session", "get", *args)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {what}\n")
