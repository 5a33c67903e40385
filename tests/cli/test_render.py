"""What people see, at 80 and 120 columns, in a pipe, in colour; with 1, 30 and 3,000 lines."""

from __future__ import annotations

import time
from dataclasses import replace

import click
import pytest

from controller.cli import render
from controller.cli.screen import Screen, cells, padded, screen
from controller.core.conditions import summaries
from controller.core.explain import explain
from controller.core.identity import ContainerIdentity
from controller.core.model import Plan, Save, World
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from tests.builders import NOW, ago, arn, drain, failure, hold, original_session, partly, record, session, task, world
from tests.cli.golden import matches
from tests.fakes.clock import START_MS

POLICY = Policy()


def the_world() -> World:
    """Return a world with a line of each kind."""
    john, eva, lou, ann = (
        "ameliastamps-website-john@email.com",
        "acme-shop-eva@acme.com",
        "zeta-site-lou@zeta.io",
        "k-w-ann",
    )
    saved = Save("saved", "main", "9c1e2f0aa", "9c1e2f0aa", at=ago("3m"))
    things = (
        session("s1", john, age="12s"),
        session("s2", john, age="31m"),
        session("t1", "acme-blog-tom@acme.com", age="2m"),
        task(2, "acme-blog-tom@acme.com", age="4m"),
        *(session(f"e{n}", eva, age="1m") for n in range(3)),
        record(container=eva, session_count=5, task_arn=arn(3)),
        task(3, eva),
        session("l1", lou, age="23m"),
        record(container=lou, age="23m", task_arn=arn(4), save=saved),
        task(4, lou),
        original_session("o1", "acme-shop-api-bob@acme.com"),
        session("a1", ann),
        record("failed", ann, failure=failure(3, retry_in="4m")),
        session("m1", "mike-web-ida", age="1s"),
        record("draining", "mike-web-ida", task_arn=arn(6), drain=drain()),
        task(6, "mike-web-ida"),
        session("n1", "nova-web-joe", age="10m"),
        record("running", "nova-web-joe", age="10m", task_arn=arn(7), hold=hold()),
        task(7, "nova-web-joe"),
        record("terminated", "old-web-sue", session_count=0),
        session("q1", "oscar-web-kim", age="10m"),
        record("running", "oscar-web-kim", age="10m", task_arn=arn(8), container_ip="10.0.0.9"),
        task(8, "oscar-web-kim", ip="10.0.0.1"),
    )
    return world(*things, cluster="webordinary", region="eu-west-1")


def plan_of(seen: World) -> Plan:
    return compute_plan(seen, POLICY, NOW)


def plan_lines(seen: World, width: int | None, *, color: bool = False, show_all: bool = False) -> list[str]:
    return render.plan_lines(seen, plan_of(seen), Screen(width, color), seconds=1.94, show_all=show_all)


@pytest.mark.parametrize("width", [80, 120, None])
def test_plan(width: int | None) -> None:
    lines = plan_lines(the_world(), width)
    assert matches(f"plan-{width or 'pipe'}", lines)
    assert width is None or max(map(cells, lines)) <= width


def test_plan_with_all() -> None:
    assert matches("plan-all-120", plan_lines(the_world(), 120, show_all=True))


def test_plan_with_bad_sight() -> None:
    seen = replace(the_world(), tasks_sight=partly("page 7 of RUNNING tasks failed: ThrottlingException"))
    lines = plan_lines(seen, 120)
    assert matches("plan-bad-sight-120", lines)
    assert not [line for line in lines if line.lstrip().startswith("-")]


@pytest.mark.parametrize("width", [80, 120])
def test_status(width: int) -> None:
    seen = the_world()
    plan = plan_of(seen)
    lines = render.status_lines(summaries(plan), seen, plan, Screen(width))
    assert matches(f"status-{width}", lines)
    assert max(map(cells, lines)) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_explain(width: int) -> None:
    seen, shown = the_world(), Screen(width)
    found = explain(seen, plan_of(seen), "zeta-site-lou@zeta.io", POLICY, NOW, lambda at: shown.time(at, NOW))
    assert found is not None
    assert matches(f"explain-{width}", render.explanation_lines(found, shown))


@pytest.mark.parametrize("width", [40, 80, 120, None])
def test_what_comes_next_and_what_to_do_are_lines_of_their_own(width: int | None) -> None:
    lines = plan_lines(the_world(), width)
    [nexts] = [line for line in lines if "Next by itself" in line]
    [todo] = [line for line in lines if "To do this now" in line]
    assert nexts.startswith("Next by itself: ")
    assert todo == lines[-1] == "To do this now: editctl apply"


# Colours repeat what the symbols say


def test_colour_changes_no_character() -> None:
    for width in (80, 120):
        painted = plan_lines(the_world(), width, color=True)
        assert [click.unstyle(line) for line in painted] == plan_lines(the_world(), width)
        assert any("\x1b[32m" in line for line in painted)


def test_a_pipe_has_neither_width_nor_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert screen() == Screen(None, False)


def test_a_width_that_is_asked_for_holds_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert screen() == Screen(72, False)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert screen().color
    monkeypatch.setenv(name, value)
    assert not screen().color


# Few, some, many


def fleet(n: int) -> World:
    rows = [session(f"s{i}", f"c{i}-web-user{i}@example.com", age="1m") for i in range(n)]
    return world(*rows, cluster="webordinary")


@pytest.mark.parametrize("n", [1, 30, 3_000])
@pytest.mark.parametrize("width", [80, 120, None])
def test_each_line_has_its_id(n: int, width: int | None) -> None:
    seen = fleet(n)
    plan = plan_of(seen)
    began = time.perf_counter()
    lines = render.plan_lines(seen, plan, Screen(width), seconds=0.1)
    took = time.perf_counter() - began
    assert sum("+ start" in line for line in lines) == n
    assert all(any(f"c{i}-web-user{i}@example.com" in line for line in lines) for i in {0, n // 2, n - 1})
    # 20 times what it takes, so that only another order of growth fails here.
    assert took < 1.0, f"{took:.2f} s for {n} lines"


def test_a_short_status_says_what_it_leaves_out() -> None:
    seen = fleet(100)
    plan = plan_of(seen)
    lines = render.status_lines(summaries(plan), seen, plan, Screen(None))
    assert len(lines) == 1 + render.SHORT_LIST + 2
    assert lines[-2] == "30 of 100 shown (--all) · 100 pending"


# Ids and texts of others


def test_long_ids_are_whole_and_push_only_their_own_line() -> None:
    long = ContainerIdentity("acme", "a-very-long-project-name-indeed", "u" * 90)
    seen = World(
        sessions=(session("s1", "a-b-c"), replace(session("s2"), container_id=long.container_id, identity=long)),
        cluster="webordinary",
    )
    for width in (80, 120, None):
        lines = plan_lines(seen, width)
        assert any(long.container_id in line for line in lines)
        assert any(line.startswith("  + start  a-b-c") for line in lines)


def test_wide_characters_keep_the_columns() -> None:
    assert (cells("日本"), padded("日本", 6)) == (4, "日本  ")


@pytest.mark.parametrize(
    ("at", "now", "text"),
    [
        (START_MS + 3_600_000, START_MS, "11:00"),
        (START_MS + 61_000, START_MS, "10:01:01"),
        (START_MS + 86_400_000, START_MS, "2026-03-03 10:00"),
    ],
)
def test_times_say_no_more_than_is_needed(at: int, now: int, text: str) -> None:
    assert Screen().soon(at, now) == text


def test_words_stay_whole_when_lines_are_wrapped() -> None:
    arn_ = "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/" + "a" * 32
    lines = Screen(50).wrapped(f"see {arn_} for more", "  ", "    ")
    assert lines == ["  see", f"    {arn_}", "    for more"]
