"""Where the workload starts, and what a relative program means: a real agent with a workload that says where it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.agent.git import self_command
from tests.agent.world import Container

HERE = """#!/bin/sh
echo "$(pwd -P)|$PWD|$*" > "$HOME/here"
"""


@pytest.fixture
def started(container: Container) -> Container:
    """Return a container with an empty workspace and an image whose WORKDIR holds a program."""
    started = container.again("started")
    for place in (image(started), started.root / "elsewhere"):
        place.mkdir()
    program(image(started))
    return started


def image(container: Container) -> Path:
    return container.root / "image"


def program(folder: Path, text: str = HERE) -> None:
    (folder / "serve").write_text(text)
    (folder / "serve").chmod(0o755)


def run(container: Container, *command: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run the agent as the image's entrypoint: it starts in the image's WORKDIR."""
    return subprocess.run(
        self_command("run", "--", *command),
        cwd=image(container),
        env=container.env(HOME=str(container.root), PWD=str(image(container)), **changed),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def said(container: Container) -> list[str]:
    """Return where the workload was, where it was told to be, and with which arguments."""
    return (container.root / "here").read_text().strip().split("|")


def test_it_starts_in_its_workspace_with_the_files_there(started):
    done = run(started, "sh", "-c", 'cat README.md > "$HOME/here"; echo new > made-here')
    assert done.returncode == 0, done.stderr
    assert (started.root / "here").read_text() == "hello\n"
    assert started.remote.tree(started.wip)[b"made-here"] == ("100644", b"new\n")


def test_an_empty_workspace_without_a_remote_is_there_all_the_same(started):
    assert run(started, "./serve", EDIT_REMOTE="", EDIT_SAVE_TO="none").returncode == 0
    assert said(started) == [str(started.workspace), str(started.workspace), ""]


def test_an_image_may_have_a_directory_of_its_own(started):
    elsewhere = started.root / "elsewhere"
    assert run(started, "./serve", EDIT_WORKDIR=str(elsewhere)).returncode == 0
    assert said(started) == [str(elsewhere), str(elsewhere), ""]


def test_a_relative_program_is_the_images_and_not_the_users(started, container):
    program(container.workspace, '#!/bin/sh\necho the users own > "$HOME/here"\n')
    container.git("add", "serve")
    container.git("commit", "--quiet", "-m", "a trap")
    container.git("push", "--quiet", "origin", "main")
    assert run(started, "./serve", "./a", "b").returncode == 0
    assert (started.workspace / "serve").exists()
    assert said(started) == [str(started.workspace), str(started.workspace), "./a b"]


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_directory_that_is_none_is_said(started, kind):
    there = started.root / "nowhere"
    if kind == "a file":
        there.write_text("")
    done = run(started, "./serve", EDIT_WORKDIR=str(there))
    assert done.returncode == 126
    assert str(there) in done.stdout + done.stderr
    assert not (started.root / "here").exists()


def test_a_program_that_is_missing_is_another_matter(started):
    assert run(started, "./serves").returncode == 127
