"""SIGKILL at any moment of a save: the remote is as before or as after, and the next save succeeds.

AGENT_KILLS sets how many; a release runs 500.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.agent.git import self_command
from controller.agent.processes import kill_session, table
from controller.agent.protocol import SaveReason, SaveState
from tests.agent.web import Web
from tests.agent.world import Container, git, until

KILLS = int(os.environ.get("AGENT_KILLS") or ("50" if os.environ.get("CI") else "20"))
SEED = int(os.environ.get("AGENT_SEED") or 20260302)
ROUNDS = 5


def start(container: Container) -> subprocess.Popen[bytes]:
    """Start a save as a process of its own, as the supervisor does."""
    return subprocess.Popen(
        self_command("save", "--seconds", "60"),
        env=container.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def change(container: Container, generator: random.Random, number: int) -> None:
    """Work a little: files, commits, a stash, a branch."""
    for each in range(generator.randrange(1, 30)):
        container.write(f"work/{each}.txt", generator.randbytes(generator.randrange(3000)))
    if number % 3 == 0:
        container.commit(f"committed/{number}.txt", f"{number}\n")
    if number % 7 == 0:
        container.write("README.md", f"stash {number}\n")
        container.git("stash", "push", "--quiet", "--", "README.md")
    if number % 5 == 0:
        container.git("branch", f"local-{number}")


def kill_after(process: subprocess.Popen[bytes], seconds: float, *, whole: bool) -> bool:
    """Kill a save after a while, with its git commands or without; tell whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        if whole:
            kill_session(process.pid)
        else:
            process.kill()
        process.wait()
        return True
    return False


def at_rest(process: subprocess.Popen[bytes], web: Web) -> None:
    """Wait until what the kill left running has ended, on our side and on the remote's, whose process is not ours."""

    def nothing_runs() -> bool:
        ours = [p for p in table().values() if p.session == process.pid and p.state != "Z"]
        return not ours and web.working == 0

    until(nothing_runs, what="what was left running has ended")


@pytest.mark.timeout(60 + 6 * KILLS)
@pytest.mark.parametrize("part", range(ROUNDS))
def test_killed_at_any_moment(container, web, part):
    generator = random.Random(SEED + part)
    began = time.monotonic()
    start(container).wait()
    usual = time.monotonic() - began
    hit = 0
    for number in range(part, KILLS, ROUNDS):
        change(container, generator, number)
        before = container.remote.refs()
        process = start(container)
        hit += kill_after(process, generator.uniform(0.05, 1.1) * usual, whole=generator.random() < 0.7)
        at_rest(process, web)
        assert container.remote.fsck() == "", f"seed {SEED + part}, kill {number}"
        for ref, sha in before.items():
            assert container.remote.has(sha, ref), f"{ref} lost a commit: seed {SEED + part}, kill {number}"
        receipt = container.save()
        assert receipt.state is SaveState.SAVED, f"{receipt}: seed {SEED + part}, kill {number}"
        assert container.remote.tree(container.wip) == container.files()
        assert container.remote.has(container.git("rev-parse", "HEAD"), container.wip)
    assert hit or KILLS < ROUNDS


def test_a_killed_restore_is_done_again(container):
    container.write("a.txt")
    container.save()
    after = container.again()
    process = subprocess.Popen(
        self_command("restore"),
        env=after.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kill_after(process, 0.2, whole=True)
    after.restore()
    assert after.files() == container.files()
    assert after.git("fsck", "--no-dangling") == ""


def test_what_killed_commands_leave_behind_is_cleared(container):
    container.write("a.txt")
    container.save()
    repository = container.state / "repository.git"
    ref = repository / "refs/remote/heads/edit/acme-site-ann@acme.io"
    left = [
        repository / "config.lock",
        ref / "wip.lock",
        repository / "objects/pack/tmp_pack_x",
        repository / "packed-refs.lock",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    container.write("b.txt")
    assert container.save().saved
    assert [path for path in left if path.exists()] == []


def test_what_is_remembered_may_be_torn(container):
    container.write("a.txt")
    first = container.save()
    for name in ("last.json", "seen.json"):
        path = container.state / name
        path.write_bytes(path.read_bytes()[:-7] if path.exists() else b'{"a.txt": [1, 2')
    container.write("b.txt")
    second = container.save()
    assert second.saved
    assert container.remote.has(first.commit, container.wip)


def test_a_lost_directory_of_the_agent_is_made_anew(container):
    container.write("a.txt")
    first = container.save()
    shutil.rmtree(container.state)
    container.write("b.txt")
    second = container.save()
    assert second.saved
    assert container.remote.has(first.commit, second.commit)


def test_objects_that_went_missing_from_the_agents_repository(container):
    """What is remembered says that content is there, and it is not: noticed, forgotten, and right the next time."""
    container.write("a.txt")
    old = (0, 1_700_000_000_000_000_000)
    container.save()
    os.utime(container.workspace / "a.txt", ns=old)
    shutil.rmtree(container.state / "repository.git" / "objects")
    container.write("b.txt")
    receipt = container.save()
    assert receipt.saved, receipt
    assert container.remote.tree(container.wip) == container.files()


def test_what_a_killed_save_left_running_keeps_the_next_one_waiting(container):
    """Two pushes of one repository would be in each other's way: the lock ends with the last process that holds it."""
    os.mkfifo(container.root / "go")
    container.remote.hook("pre-receive", f"touch {container.root}/pushing; read line < {container.root}/go")
    container.write("a.txt")
    process = start(container)
    until((container.root / "pushing").exists, what="the push")
    process.kill()
    process.wait()
    receipt = container.save(seconds=1)
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.BUSY_LOCK)
    (container.remote.path / "hooks/pre-receive").unlink()
    (container.root / "go").write_text("go\n")
    assert container.save().saved


def test_two_saves_at_once_wait_for_each_other(container):
    container.write("a.txt")
    processes = [start(container) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert container.remote.fsck() == ""
    assert len(git(container.remote.path, "rev-list", "--first-parent", container.wip, "^main").split()) == 1


def test_a_helper_starts_without_the_workspaces_python(container):
    """Neither the directory nor PYTHON* variables may lend a module to the agent."""
    container.write("json.py", "raise SystemExit(99)\n")
    done = subprocess.run(
        self_command("help"),
        cwd=container.workspace,
        env={"PYTHONPATH": str(container.workspace), "PYTHONSTARTUP": "x", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == ""
    assert "edit-agent run" in done.stderr
    assert Path(sys.executable).exists()
