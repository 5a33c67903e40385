"""docs/operations.md, "An operator's morning", played again: each command of it, with what the page says it answers.

Times, durations and task ids differ from play to play; all other words are compared. `…` stands for lines left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.aws.client import ClientSettings, connect
from controller.aws.tables import TableNames
from controller.cli.screen import Screen
from controller.local.ecs import Timings
from controller.local.server import LocalEndpoint
from tests.cli.lab import Account
from tests.fakes.clock import FakeClock

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PART = re.compile(r"<!-- (?P<remark>.*?) -->|```console\n(?P<block>.*?)```", re.DOTALL)
LATER = re.compile(r"(\d+) seconds later")
VOLATILE = (
    (r"\b\d\d:\d\d(:\d\d)?\b", "TIME"),
    (r"\b\d+(\.\d+)? (s|min|h)\b", "LONG"),
    (r"\btask [0-9a-f]{6}\b", "task ID"),
    (r"\b127\.\d+\.\d+\.\d+\b", "ADDRESS"),
)


@pytest.fixture
def morning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Return an account with the names of the page."""
    monkeypatch.chdir(tmp_path)
    clock = FakeClock()
    with LocalEndpoint(clock=clock, timings=Timings.fast()) as endpoint:
        clients = connect(ClientSettings(region="us-east-1", endpoint_url=endpoint.url, max_attempts=1), clock)
        account = Account(endpoint, clients, clock)
        account.cluster, account.names, account.family = "webordinary", TableNames(), "webordinary-edit"
        yield account


def parts() -> list[tuple[str, str]]:
    """Return remarks and blocks of the section, in order."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition("\n## An operator's morning\n")
    section = section.partition("\n## ")[0]
    return [(m["remark"] or "", m["block"] or "") for m in PART.finditer(section)]


def commands(block: str) -> Iterator[tuple[list[str], str]]:
    """Yield each command of a block with what it answered."""
    for part in block.split("$ editctl ")[1:]:
        command, _, answer = part.partition("\n")
        yield shlex.split(command), answer


def words(text: str) -> str:
    """Return the text without what differs from play to play, in one line."""
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text)
    return " ".join(text.split())


class Play:
    """Plays the section on an account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.opened = 0
        self.instead: list[str] | None = None
        self.played = 0

    def remark(self, text: str) -> None:
        """Do what stands between the blocks."""
        later = LATER.fullmatch(text)
        if later:
            self.account.clock.step(seconds=float(later[1]))
        elif text.startswith("people: "):
            for person in text.removeprefix("people: ").replace("\n", " ").split(","):
                self.opened += 1
                client, project, user = person.split()
                names = ("--client", client, "--project", project, "--user", user)
                assert self.editctl("session", "open", f"s{self.opened}", *names)[0] == 0
            assert self.editctl("apply")[0] == 0
        elif text.startswith("in its place: "):
            self.instead = shlex.split(text.removeprefix("in its place: "))
        else:
            raise AssertionError(f"nobody knows how to play: {text}")

    def block(self, text: str) -> None:
        """Run the commands of a block and compare."""
        for args, expected in commands(text):
            instead, self.instead = self.instead, None
            code, answer = self.editctl(*(instead or args))
            assert code in (0, 2), answer
            self.played += 1
            if instead is None:
                pattern = re.escape(words(expected)).replace("…", ".*")
                assert re.fullmatch(pattern, words(answer)), f"{args}:\n{answer}"

    def editctl(self, *args: str) -> tuple[int, str]:
        done = self.account.editctl(*args, screen=Screen(80), EDITCTL_IDLE_TIMEOUT="10s")
        self.account.clock.step(seconds=1)
        return done.exit_code, done.stdout


def test_the_morning_as_the_page_tells_it(morning: Account) -> None:
    morning.there()
    play = Play(morning)
    for remark, block in parts():
        if remark:
            play.remark(remark)
        else:
            play.block(block)
    assert play.played >= 12
