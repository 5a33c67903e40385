"""A full disk, files that cannot be read, very many files, too little time: what can be saved is, the rest is said."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
import time

import pytest

from controller.agent import files
from controller.agent.git import self_command
from controller.agent.protocol import Receipt, SaveReason, SaveState, receipt_from_json
from tests.agent.init import IN_CI
from tests.agent.world import Container

MANY = int(os.environ.get("AGENT_FILES") or ("100000" if os.environ.get("CI") else "20000"))


def test_a_file_that_cannot_be_read(container, monkeypatch):
    container.write("secret.key")
    container.write("other.txt")
    really = files.Tree.open

    def refuse(tree: files.Tree, path: bytes) -> int:
        if path == b"secret.key":
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(tree, path)

    monkeypatch.setattr(files.Tree, "open", refuse)
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.PARTIAL, SaveReason.UNREADABLE)
    assert "secret.key" in receipt.message
    assert set(container.remote.tree(container.wip)) == {b"README.md", b"other.txt"}
    monkeypatch.undo()
    assert container.save().saved


def test_a_folder_that_cannot_be_entered(container, monkeypatch):
    container.write("private/a.txt")
    container.write("other.txt")
    really = files.Tree.enter

    def refuse(tree: files.Tree, directory: bytes) -> int:
        if directory == b"private":
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(tree, directory)

    monkeypatch.setattr(files.Tree, "enter", refuse)
    receipt = container.save()
    assert receipt.state is SaveState.PARTIAL
    assert "private/a.txt" in receipt.message


def test_a_file_that_vanishes_while_it_is_read_is_no_failure(container, monkeypatch):
    container.write("gone.txt")
    really = files.Tree.open

    def vanish(tree: files.Tree, path: bytes) -> int:
        if path == b"gone.txt":
            (container.workspace / "gone.txt").unlink(missing_ok=True)
        return really(tree, path)

    monkeypatch.setattr(files.Tree, "open", vanish)
    assert container.save().saved


def test_a_file_that_changes_while_it_is_read_is_saved_as_it_was_at_one_moment(container, monkeypatch):
    file = container.write("log.txt", "0\n")
    really = files.read_whole
    reads = []

    def write_meanwhile(descriptor: int, size: int) -> bytes:
        data = really(descriptor, size)
        reads.append(data)
        file.write_text(f"{len(reads)}\n" * (len(reads) + 1))
        return data

    monkeypatch.setattr("controller.agent.capture.read_whole", write_meanwhile)
    receipt = container.save()
    assert receipt.saved
    assert container.remote.tree(container.wip)[b"log.txt"][1] in reads
    monkeypatch.undo()
    assert container.save().saved
    assert container.remote.tree(container.wip)[b"log.txt"][1] == file.read_bytes()


def test_a_large_file_that_shrinks_while_it_is_read(container, monkeypatch):
    monkeypatch.setattr("controller.agent.capture.IN_MEMORY", 1000)
    file = container.write("big.bin", os.urandom(100_000))
    really = os.lseek

    def shrink(descriptor: int, position: int, how: int) -> int:
        os.truncate(file, 50_000)
        return really(descriptor, position, how)

    monkeypatch.setattr(os, "lseek", shrink)
    receipt = container.save()
    monkeypatch.undo()
    assert receipt.saved
    assert container.remote.tree(container.wip)[b"big.bin"][1] == file.read_bytes()


def test_too_little_time_is_a_recorded_failure(container):
    container.write("a.txt")
    before = container.remote.refs()
    receipt = container.save(seconds=0.02)
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.DEADLINE)
    assert container.remote.refs() == before
    assert container.save().saved


def test_a_directory_that_cannot_be_written(container):
    receipt = container.save(EDIT_STATE_DIR="/proc/edit-agent")
    assert receipt.state is SaveState.FAILED
    assert "EDIT_STATE_DIR" in receipt.message


@pytest.mark.timeout(300)
def test_very_many_files(container):
    """So many files that whatever is done to each of them shows; hard links, because making them is not the point."""
    for number in range(100):
        container.write(f"first/{number}.txt", f"{number}\n")
    for folder in range(MANY // 100 - 1):
        made = container.workspace / f"more{folder}"
        made.mkdir()
        for number in range(100):
            (made / f"{number}.txt").hardlink_to(container.workspace / f"first/{number}.txt")
    began = time.process_time() + sum(os.times()[2:4])
    receipt = container.save(seconds=250)
    assert receipt.saved, receipt
    assert receipt.files == MANY + 1
    again = container.save(seconds=250, ask_again=False)
    spent = time.process_time() + sum(os.times()[2:4]) - began
    assert again.reason is SaveReason.UNCHANGED
    sys.stdout.write(f"{MANY} files: {spent:.1f} s of processor time for a first save and a checkpoint\n")


# A full disk

FILL = "dd if=/dev/zero of=filler bs=4k 2>/dev/null; dd if=/dev/zero of=filler2 bs=1 count=4096 2>/dev/null;"


def on_a_small_disk(container: Container, megabytes: int, script: str, **environment: str) -> list[Receipt]:
    """Run a script with the workspace and the agent's directory on a disk of that size; return what its saves said."""
    disk = container.root / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        message = "only root can mount a small disk. Run the tests as root."
        pytest.fail(message) if IN_CI else pytest.skip(message)
    save = shlex.join(self_command("save", "--seconds", "50"))
    whole = f"""set -u
mount -t tmpfs -o size={megabytes}m tmpfs {disk} || exit 99
cp -a {container.workspace} {disk}/workspace
cd {disk}/workspace
save() {{ {save}; }}
{script}"""
    names = {"WORKSPACE_PATH": f"{disk}/workspace", "EDIT_STATE_DIR": f"{disk}/state"}
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", whole],
        env=container.env(**names, **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        message = f"no small disk can be mounted: {done.stderr.strip()}. Run as root with CAP_SYS_ADMIN."
        pytest.fail(message) if IN_CI else pytest.skip(message)
    return [receipt_from_json(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_full_disk_is_saved_from_the_reserve(container):
    script = f"save; echo mine > mine.txt; mkdir ignored; echo '*' > ignored/.gitignore; cd ignored; {FILL} cd ..; save"
    first, second = on_a_small_disk(container, 12, script, EDIT_RESERVE="2M")
    assert first.saved, first
    assert second.saved, second
    assert container.remote.tree(container.wip)[b"mine.txt"][1] == b"mine\n"


def test_a_full_disk_without_a_reserve_is_a_recorded_failure(container):
    big = "dd if=/dev/urandom of=big.bin bs=1M count=5 2>/dev/null;"
    script = (
        f"save; {big} mkdir ignored; echo '*' > ignored/.gitignore; cd ignored; {FILL} cd ..; save; rm -r ignored; save"
    )
    first, full, freed = on_a_small_disk(container, 14, script)
    assert first.saved
    assert (full.state, full.reason) == (SaveState.FAILED, SaveReason.DISK_FULL), full
    assert container.remote.fsck() == ""
    assert freed.saved, freed
    assert len(container.remote.tree(container.wip)[b"big.bin"][1]) == 5 << 20
