"""The demo as a person runs it: in a process of its own, with its controllers and its tasks in processes of theirs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.cli.screen import cells
from controller.cli.story import workshop
from controller.cli.story.child import Event, environment_for
from controller.cli.story.scenes import Story
from controller.core.model import ActionKind

ROOT = Path(__file__).parents[2]
EDITCTL = "from controller.cli.main import main; main()"
AT_MOST = 120
"""Seconds that the story may take."""

VARIABLE = re.compile(r"(\w+)=(\S+)")

pytestmark = pytest.mark.timeout(AT_MOST + 60)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder to run in."""
    there = tmp_path / "here"
    there.mkdir()
    return there


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Return what starts a demo: `spoiled` is code that runs before it, `env` is added to the environment."""
    started: list[subprocess.Popen[str]] = []

    def run(*options: str, spoiled: str = "", env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        process = subprocess.Popen(
            [sys.executable, "-c", f"{spoiled}\n{EDITCTL}", "demo", "--fast", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **(env or {})},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def nothing_is_left(said: str, folder: Path) -> bool:
    """Tell whether processes, port and files of a demo are gone, by what it said of them."""
    pids = {int(pid) for pid in re.findall(r"[Pp]rocess\s+(\d+)", said)}
    ports = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", said)}
    assert pids
    assert ports
    return not (any(map(is_alive, pids)) or any(map(is_open, ports)) or at_work_in(folder) or list(folder.iterdir()))


def at_work_in(folder: Path) -> set[int]:
    """Return the processes whose directory is below a folder: agents, workloads, git."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        # One that has ended, or is somebody else's.
        with contextlib.suppress(OSError):
            if entry.readlink().is_relative_to(folder):
                found.add(int(entry.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(process: subprocess.Popen[str], text: str) -> str:
    """Read what the demo says up to the line that holds a text; return all of it."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it never said {text!r}: {said}")


def figure(said: str, name: str) -> str:
    """Return one of the figures at the end."""
    found = re.search(rf"^ +{name}  +(\S+)", said, re.MULTILINE)
    assert found, f"no figure {name!r} in {said}"
    return found[1]


@pytest.fixture
def misled(tmp_path: Path) -> Mapping[str, str]:
    """Return settings as a user may have them, each of which would lead the demo astray."""
    settings = tmp_path / "editctl.toml"
    settings.write_text("cluster = [")
    return {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_ECS": "http://127.0.0.1:9",
        "AWS_PROFILE": "production",
        "AWS_CONFIG_FILE": str(settings),
        "AWS_SHARED_CREDENTIALS_FILE": str(settings),
        "EDITCTL_CLUSTER": "production",
        "EDITCTL_CONFIG": str(settings),
        "EDITCTL_IDLE_TIMEOUT": "never",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }


@pytest.fixture
def misled_git(tmp_path: Path) -> Mapping[str, str]:
    """Return git settings of a user with which no git command would work."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core\n")
    return {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), "GIT_DIR": "/nowhere"}


def test_the_whole_story(start: Start, folder: Path, misled: Mapping[str, str], misled_git: Mapping[str, str]) -> None:
    began = time.monotonic()
    process = start(env={**misled, **misled_git, "COLUMNS": "80"})
    said, beside = process.communicate(timeout=AT_MOST)
    assert process.returncode == 0, said + beside
    assert beside == ""
    assert time.monotonic() - began < AT_MOST

    assert re.findall(r"^ (\d)/9  ", said, re.MULTILINE) == [str(n) for n in range(1, 10)]
    assert (said.count("checked: "), said.count("saved: ")) == (13, 2)
    # A path must be copied whole, however long this machine's is.
    assert [line for line in said.splitlines() if cells(line) > 80 and str(folder) not in line] == []
    assert "\x1b" not in said

    names = ("containers", "tasks started", "calls to RunTask", "second tasks", "tasks stopped", "counts repaired")
    assert [figure(said, name) for name in names] == ["4", "5", "6", "0", "4", "1"]
    assert (figure(said, "others' tasks touched"), figure(said, "writes at rest")) == ("0", "0")
    assert figure(said, "saves") == "4"
    text = " ".join(said.split())
    assert "pushed edit/zeta-site-lou@zeta.io/wip" in text
    assert "the work is back, byte for byte and as uncommitted as it was: 1 changed file, 3 new." in text
    assert "~ cancel WantedAgain drain cancelled" in text
    assert re.search(r"saved: zeta-shop-lou@zeta\.io: 5 files to edit/zeta-shop-lou@zeta\.io/wip [0-9a-f]{7},", text)
    assert nothing_is_left(said, folder)


def test_without_git_there_are_no_workspaces_and_it_says_so(start: Start, folder: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "no-programs"
    nowhere.mkdir()
    process = start(spoiled=only("_two_people", "_duplicate"), env={"PATH": str(nowhere)})
    said, beside = process.communicate(timeout=AT_MOST)
    assert (process.returncode, beside) == (0, ""), said
    assert "Tasks have no workspaces here: git is not installed. With git 2.39 or newer," in said
    assert said.count("checked: ") == 2
    assert figure(said, "containers") == "3"
    assert not re.search("edit-agent|saves|/tmp", said.partition("1/2")[2])
    assert nothing_is_left(said, folder)


def test_what_workspaces_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert workshop.why_not() == ""
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)
    with monkeypatch.context() as here:
        here.setenv("PATH", str(tmp_path))
        assert workshop.why_not() == "git 2.39 or newer is needed, and this is git version 2.30.2"
    with monkeypatch.context() as here:
        here.setattr(workshop, "_PROBED", "192.0.2.1")  # nobody's: RFC 5737
        assert workshop.why_not() == "this machine cannot listen on addresses such as 192.0.2.1"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert workshop.why_not() == "edit-agent needs Linux, and this is darwin"


def test_there_are_eight_scenes_without_workspaces_and_nine_with() -> None:
    def scenes(there: object) -> list[str]:
        story = object.__new__(Story)
        story.stage = SimpleNamespace(workshop=there)  # type: ignore[assignment]
        return [title for title, _ in story.scenes]

    assert len(scenes(None)) == 8
    assert set(scenes(object())) - set(scenes(None)) == {"Lou writes while her work is saved"}


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "SIGTERM", "the terminal is closed"],
)
def test_it_can_be_ended_at_any_time(start: Start, folder: Path, sent: signal.Signals, code: int) -> None:
    process = start()
    said = until(process, "2/9")
    process.send_signal(sent)
    asked = time.monotonic()
    rest, beside = process.communicate(timeout=30)
    assert time.monotonic() - asked < 3
    assert process.returncode == code
    assert beside == "interrupted; everything that the demo started is stopped\n"
    assert nothing_is_left(said + rest, folder)


def test_nothing_of_it_outlives_its_kill(start: Start, folder: Path) -> None:
    process = start()
    said = until(process, "2/9")
    (controller,) = {int(pid) for pid in re.findall(r"process (\d+)", said)}
    tasks = at_work_in(folder)
    assert len(tasks) >= 6, "three agents and their workloads"
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while (any(map(is_running, {controller, *tasks})) or list(folder.iterdir())) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert not any(map(is_running, {controller, *tasks}))
    assert not list(folder.iterdir())


def is_running(pid: int) -> bool:
    """Tell whether a process does anything; where nobody collects orphans, an ended one still has its number."""
    status = Path(f"/proc/{pid}/stat")
    return is_alive(pid) and not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_reader_may_go_away(start: Start, folder: Path) -> None:
    process = start()
    said = until(process, "1/9")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
    assert nothing_is_left(said, folder)


def test_it_stays_if_it_is_told_to(start: Start, folder: Path) -> None:
    process = start("--keep", spoiled=only("_two_people"))
    said = until(process, "What the controller does")
    exported = {name: value for line in said.splitlines() if "export" in line for name, value in VARIABLE.findall(line)}
    assert {"AWS_ENDPOINT_URL", "EDITCTL_IDLE_TIMEOUT"} <= exported.keys()
    command = "session open s1 --client acme --project blog --user tom"
    assert command in said
    another = [sys.executable, "-c", EDITCTL, *command.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **exported}
    opened = subprocess.run(another, capture_output=True, text=True, cwd=folder, env=environment, timeout=60)
    assert opened.returncode == 0, opened.stderr
    said += until(process, "+ start   acme-blog-tom")
    (look,) = (line.split() for line in said.splitlines() if line.startswith("  git -C "))
    looked = subprocess.run(look, capture_output=True, text=True, cwd=folder, timeout=60, check=False)
    assert re.fullmatch(r"[0-9a-f]+ first\n", looked.stdout), looked.stderr
    process.send_signal(signal.SIGINT)
    rest, beside = process.communicate(timeout=30)
    assert (process.returncode, beside) == (0, "")
    assert nothing_is_left(said + rest, folder)


WHEN_NOBODY_POLLS = """
from controller.cli import demo
demo.SETTINGS = {**demo.SETTINGS, "poll": "10m"}
"""


def test_hints_wake_the_controller(start: Start, folder: Path) -> None:
    process = start(spoiled=only("_two_people", "_second_chat", "_drifted_count") + WHEN_NOBODY_POLLS)
    said, beside = process.communicate(timeout=AT_MOST)
    assert (process.returncode, beside) == (0, ""), said
    assert "by polling alone up to 10 min" in said
    assert figure(said, "writes at rest") == "0"


def only(*scenes: str) -> str:
    """Return code that leaves out the other scenes."""
    return f"""
from controller.cli.story.scenes import Story
Story.scenes = property(lambda self: [(name, getattr(self, name)) for name in {scenes!r}])
"""


TWO_FOR_ONE = """
from controller.local.ecs import StrictEcs
run = StrictEcs._run_task
StrictEcs._run_task = lambda self, params, now: run(self, {**params, "count": 2}, now)
"""
FORGETS_TOKENS = """
from controller.local.tokens import TokenTable
TokenTable.replay = lambda self, params, now: None
"""
SAVES_NOTHING = """
from controller.cli.story.workshop import Workshop
command = Workshop.command
def careless(*arguments):
    program, variables = command(*arguments)
    return program, {**variables, "EDIT_SAVE_TO": "none"}
Workshop.command = careless
"""
ONE_MORE_MESSAGE = """
from controller.cli.story.stage import Stage
again = Stage.looks_again
Stage.looks_again = lambda self: (self.registry.touch("chat-1"), again(self))[1]
"""


@pytest.mark.parametrize(
    ("scenes", "spoiled", "complaint"),
    [
        (["_two_people"], TWO_FOR_ONE, "scene 1/1 did not come out as told: "),
        (["_two_people", "_killed"], FORGETS_TOKENS, "scene 2/2 did not come out as told: "),
        (["_two_people", "_stopped_by_hand"], SAVES_NOTHING, "scene 2/2 did not come out as told: saves of task "),
        (["_two_people"], ONE_MORE_MESSAGE, "the end did not come out as told: writes at rest"),
    ],
    ids=["two tasks for one", "a second task after the kill", "work that is lost", "a write at rest"],
)
def test_a_broken_promise_is_told(start: Start, folder: Path, scenes: list[str], spoiled: str, complaint: str) -> None:
    process = start(spoiled=only(*scenes) + spoiled)
    said, beside = process.communicate(timeout=AT_MOST)
    assert process.returncode == 1
    assert beside.startswith(f"error: {complaint}"), said + beside
    assert nothing_is_left(said, folder)


def test_a_port_that_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--port", str(taken.getsockname()[1]))
        said, beside = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")
    assert beside.startswith("error: cannot listen on 127.0.0.1:")


def test_what_the_controller_may_know(misled: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**misled, "NO_PROXY": "*", "LANG": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    environment = environment_for("http://127.0.0.1:1")
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert environment["LANG"] == "C.UTF-8"
    assert {name for name in environment if name in misled} == {
        "AWS_ENDPOINT_URL",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
    assert not set(environment.values()) & set(misled.values())
    assert "NO_PROXY" not in environment


def test_what_the_log_says_is_shown_as_plan_shows_it() -> None:
    line = (
        '{"event":"defer","containerId":"a-b-c","reason":"StopInProgress","action":"start","generation":1,'
        '"message":"task 1 is STOPPING"}'
    )
    event = Event.parse(line, at=5)
    assert event is not None
    action = event.action
    assert action is not None
    assert (action.kind, action.deferred, action.message) == (ActionKind.DEFER, ActionKind.START, "task 1 is STOPPING")
    assert not event.done
    assert [Event.parse(text, at=5) for text in ("error: no tables", "[]", "{}")] == [None] * 3
    lease = Event.parse('{"event":"leads","message":"epoch 2"}', at=5)
    assert lease is not None
    assert lease.action is None
