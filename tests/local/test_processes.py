"""Tasks as processes: what they are told, how they end, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from controller.local.describe import LaunchedTask
from controller.local.ecs import StrictEcs, Timings
from controller.local.guard import Guard
from controller.local.processes import METADATA_VARIABLE, Fitting, ProcessRunner
from controller.local.server import system_clock
from tests.local.world import CLUSTER, CONTAINER, DEFINITION, REQUEST, environment

ENVIRONMENT = "import json, os; open('environment.new', 'w').write(json.dumps(dict(os.environ)))"
TELL = f"{ENVIRONMENT}; os.rename('environment.new', 'environment')"
WAIT = "threading.Event().wait()"
STUBBORN = f"import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); {TELL}; {WAIT}"
OBEDIENT = f"import signal, sys, threading; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); {TELL}; {WAIT}"
# Its child is in a session of its own, where no signal to the group finds it.
PARENT = (
    "import subprocess, sys; "
    f"child = subprocess.Popen([sys.executable, '-c', 'import threading; {WAIT}'], start_new_session=True); "
    f"open('child', 'w').write(str(child.pid)); {STUBBORN}"
)

ROOT = Path(__file__).parents[2]
# A runner in a process of its own, which says which processes there are.
RUNNER = """
import sys, threading
from pathlib import Path
from tests.local.test_processes import PARENT, Machine
root = Path(sys.argv[1])
machine = Machine(root / "tasks", root)
arn = machine.start(PARENT)
machine.told(arn)
child = (machine.runner.directory(arn) / "child").read_text()
print(machine.runner.pid(arn), child, machine.runner.guard_pid, flush=True)
threading.Event().wait()
"""


class Machine:
    """A local ECS on this machine's time whose tasks are Python programs."""

    def __init__(self, root: Path, temporary: Path | None = None) -> None:
        self.program: Sequence[str] = ()
        self.runner = ProcessRunner(root, self._fitting, system_clock, temporary=temporary)
        self.ecs = StrictEcs(system_clock, timings=Timings(0.05, 0.05, 0.05, 0.05, 0.05, 0.05), observer=self.runner)
        self.runner.drive(self.ecs)
        self.ecs.call("CreateCluster", {"clusterName": CLUSTER})
        container = {"name": CONTAINER, "image": "edit:1", "stopTimeout": 2}
        self.ecs.call("RegisterTaskDefinition", {**DEFINITION, "containerDefinitions": [container]})

    def _fitting(self, task: LaunchedTask, directory: Path) -> Fitting:
        return Fitting(self.program, {"ADDRESS": task.address or "", "DIRECTORY": str(directory), "BOTH": "fitting"})

    def start(self, program: str, **variables: str) -> str:
        """Start a task that runs a program, and return its ARN."""
        self.program = (sys.executable, "-I", "-S", "-c", program)
        answer = self.ecs.call("RunTask", {**REQUEST, "overrides": environment(**variables)})
        return str(answer["tasks"][0]["taskArn"])

    def told(self, arn: str) -> dict[str, str]:
        """Return the environment that a task's process has, once it says so."""
        file = self.runner.directory(arn) / "environment"
        until(file.exists, "the process")
        told: dict[str, str] = json.loads(file.read_text())
        return told

    def stop(self, arn: str) -> None:
        """Send StopTask."""
        self.ecs.call("StopTask", {"cluster": CLUSTER, "task": arn})

    def end(self, arn: str) -> Mapping[str, Any]:
        """Wait until a task is STOPPED, and return it."""
        until(lambda: self.runner.pid(arn) is None, "the end of the process")

        def task() -> dict[str, Any]:
            return next(t for t in self.ecs.snapshot() if t["taskArn"] == arn)

        until(lambda: task()["lastStatus"] == "STOPPED", "STOPPED")
        return task()


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until it holds; fail with what was waited for."""
    end, tick = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        tick.wait(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def exit_code(task: Mapping[str, Any]) -> Any:
    return task["containers"][0].get("exitCode")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "tasks")
    try:
        yield machine
    finally:
        machine.runner.close()


def test_a_process_gets_its_task_and_nothing_of_ours(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for tasks")
    arn = machine.start(OBEDIENT, BOTH="override", OVERRIDE="yes")
    told = machine.told(arn)
    directory = str(machine.runner.directory(arn))
    assert (told["HOME"], told["DIRECTORY"], told["OVERRIDE"], told["BOTH"]) == (directory, directory, "yes", "fitting")
    assert told["ADDRESS"].startswith("127.1.")
    assert set(told) <= {
        "ADDRESS",
        "BOTH",
        "DIRECTORY",
        "HOME",
        "LC_ALL",
        "OVERRIDE",
        "PATH",
        METADATA_VARIABLE,
    }
    with urllib.request.urlopen(f"{told[METADATA_VARIABLE]}/task", timeout=5) as answer:
        said = json.load(answer)
    assert said["TaskARN"] == arn
    assert said["Containers"][0]["Networks"][0]["IPv4Addresses"] == [told["ADDRESS"]]


def test_tasks_have_a_directory_and_an_address_each(machine: Machine) -> None:
    told = [machine.told(machine.start(OBEDIENT)) for _ in range(2)]
    assert told[0]["HOME"] != told[1]["HOME"]
    assert told[0]["ADDRESS"] != told[1]["ADDRESS"]


def test_the_exit_code_is_the_tasks(machine: Machine) -> None:
    task = machine.end(machine.start("import sys; print('bye', flush=True); sys.exit(75)"))
    assert (task["stopCode"], exit_code(task)) == ("EssentialContainerExited", 75)
    assert (machine.runner.directory(task["taskArn"]) / "log").read_text() == "bye\n"


def test_the_exit_code_of_a_signal_is_128_and_its_number(machine: Machine) -> None:
    task = machine.end(machine.start("import os; os.kill(os.getpid(), 10)"))
    assert exit_code(task) == 138


def test_a_stop_is_a_sigterm_and_time_to_end(machine: Machine) -> None:
    arn = machine.start(OBEDIENT)
    machine.told(arn)
    machine.stop(arn)
    task = machine.end(arn)
    assert (task["stopCode"], exit_code(task)) == ("UserInitiated", 7)


def test_what_ignores_it_is_killed_after_the_stop_timeout(machine: Machine) -> None:
    arn = machine.start(STUBBORN)
    machine.told(arn)
    began = time.monotonic()
    machine.stop(arn)
    task = machine.end(arn)
    assert time.monotonic() - began >= 2
    assert exit_code(task) == 137


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: who started whom is not to be seen")
@pytest.mark.parametrize("how", ["stop", "close"])
def test_what_a_killed_process_has_started_is_killed_too(machine: Machine, how: str) -> None:
    arn = machine.start(PARENT)
    machine.told(arn)
    child, parent = int((machine.runner.directory(arn) / "child").read_text()), machine.runner.pid(arn)
    assert parent is not None
    assert is_alive(child)
    if how == "stop":
        machine.stop(arn)
        machine.end(arn)
    else:
        machine.runner.close()
    until(lambda: not is_alive(child), "the end of the child")
    assert not is_alive(parent)


def test_a_program_that_is_not_there_fails_the_task(machine: Machine) -> None:
    machine.program = ("/nowhere/at-all",)
    arn = machine.ecs.call("RunTask", dict(REQUEST))["tasks"][0]["taskArn"]
    task = machine.end(arn)
    assert task["stopCode"] == "TaskFailedToStart"
    assert "/nowhere/at-all" in task["stoppedReason"]
    assert exit_code(task) is None


def test_after_the_end_nothing_is_started_and_nobody_answers(machine: Machine) -> None:
    arn = machine.start(OBEDIENT)
    uri = machine.told(arn)[METADATA_VARIABLE]
    pid = machine.runner.pid(arn)
    machine.runner.close()
    machine.runner.close()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{uri}/task", timeout=5)
    later = machine.start(OBEDIENT)
    until(lambda: "TaskFailedToStart" in [t.get("stopCode") for t in machine.ecs.snapshot()], "a refusal")
    assert machine.runner.pid(later) is None


# When the runner itself is killed


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: who started whom is not to be seen")
def test_a_runner_that_is_killed_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert runner.stdout is not None
    with runner:
        pids = [int(pid) for pid in runner.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        runner.send_signal(signal.SIGKILL)
    until(lambda: not any(map(is_alive, pids)), "the end of the task, its child and the guard")
    assert not root.exists()


def test_a_runner_that_ends_in_order_keeps_its_files_and_no_guard(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "tasks", tmp_path)
    guard = machine.runner.guard_pid
    arn = machine.start(OBEDIENT)
    machine.told(arn)
    assert is_alive(guard)
    machine.runner.close()
    assert not is_alive(guard)
    assert (machine.runner.directory(arn) / "log").exists()


def test_a_guard_leaves_alone_what_it_was_told_to_forget() -> None:
    sleepers = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", f"import threading; {WAIT}"], start_new_session=True)
        for _ in range(2)
    ]
    forgotten, watched = sleepers
    guard = Guard()
    try:
        guard.watch(forgotten.pid)
        guard.watch(watched.pid)
        guard.forget(forgotten.pid)
        # As if this process were gone: the guard's input ends without a word.
        assert guard._process.stdin is not None
        guard._process.stdin.close()
        assert watched.wait(20) == -signal.SIGKILL
        assert guard._process.wait(20) == 0
        assert forgotten.poll() is None
    finally:
        guard.dismiss()
        for each in sleepers:
            each.kill()
            each.wait()


def test_without_its_guard_a_runner_still_ends_what_it_started(machine: Machine) -> None:
    arn = machine.start(OBEDIENT)
    machine.told(arn)
    os.kill(machine.runner.guard_pid, signal.SIGKILL)
    pid = machine.runner.pid(arn)
    assert pid is not None
    machine.stop(arn)
    assert exit_code(machine.end(arn)) == 7
    machine.runner.close()
    assert not is_alive(pid)
