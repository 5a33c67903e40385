"""`editctl status` and `editctl explain`."""

from __future__ import annotations

import json

from tests.cli.lab import Lab
from tests.cli.schema import problems


def test_status(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.open("s2", "acme", "blog", "tom")
    done = lab.editctl("status")
    assert done.exit_code == 0
    title, row, total, todo = done.stdout.splitlines()
    assert title.split() == ["CONTAINER", "PHASE", "SESSIONS", "QUIET", "AGE", "NEXT"]
    assert row.split()[:3] == ["acme-blog-tom", "Running", "2/2"]
    assert row.endswith("idle at 10:21")
    assert total == "1 container · 1 running"
    assert todo == "More about one: editctl explain acme-blog-tom"


def test_a_start_on_its_way_is_not_said_to_end_in_a_drain(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.editctl("apply", "--no-wait")
    assert "ready before 10:10" in lab.editctl("status").stdout
    assert "Next by itself" not in lab.editctl("plan").stdout


def test_stopped_containers_are_listed_with_all(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(hours=2)
    lab.editctl("apply")
    assert "acme-blog-tom" not in lab.editctl("status").stdout
    assert "0 of 1 shown (--all)" in lab.editctl("status").stdout
    assert "acme-blog-tom  Stopped" in lab.editctl("status", "--all").stdout


def test_status_json_is_as_documented(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.open("s2", "acme", "shop", "eva")
    document = json.loads(lab.editctl("status", "--json").stdout)
    assert problems(document, "status") == []
    assert [c["phase"] for c in document["containers"]] == ["Running", "Pending"]


def test_explain(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("explain", "acme-blog-tom")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "Running, and kept: 1 of its 1 session is active."
    assert "  wanted  yes  session s1 active" in done.stdout


def test_explain_says_why_it_was_stopped_and_how_to_go_on(lab: Lab) -> None:
    tom = lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(minutes=22)
    lab.simulation.settle()
    assert lab.simulation.live(tom.container_id) == []
    said = lab.editctl("explain", "acme-blog-tom").stdout
    assert "stopped  generation 1 at " in said
    assert ": Idle" in said
    assert "resume   a message in a session starts it again: editctl session touch s1" in said
    assert lab.editctl("session", "touch", "s1").exit_code == 0
    lab.simulation.settle()
    assert len(lab.simulation.live(tom.container_id)) == 1
    assert "resume" not in lab.editctl("explain", "acme-blog-tom").stdout


def test_explain_json_is_as_documented(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    document = json.loads(lab.editctl("explain", "acme-blog-tom", "--json").stdout)
    assert problems(document, "explain") == []
    assert document["container"]["containerId"] == "acme-blog-tom"
    assert [a["action"] for a in document["actions"]] == ["keep"]


def test_an_unknown_id_gets_those_that_are_near(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    done = lab.editctl("explain", "acme-blog-tim")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "error: no container 'acme-blog-tim'",
        "  did you mean acme-blog-tom?",
        "  `editctl status --all` lists them",
    ]


def test_an_id_like_no_other(lab: Lab) -> None:
    done = lab.editctl("explain", "x")
    assert done.exit_code == 1
    assert "no session, record or task has this id, or one like it" in done.stderr
