"""The agent as process 1: real signals, real children, real saves. See init.py for what that needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from controller.agent.client import Target, Unknown
from controller.agent.git import PACKAGE_PATH, self_command
from controller.agent.processes import all_still
from controller.agent.protocol import AgentPhase, AgentStatus, DrainState
from tests.agent.init import ARN, IN_CI, Init, need_namespace
from tests.agent.world import Container, git, until

LOOP = "while :; do echo . >> growing; sleep 0.02; done"


@pytest.fixture
def empty(container: Container) -> Container:
    """Return a container that has just been started: its workspace is empty."""
    return container.again("started")


def size(container: Container, name: str = "growing") -> int:
    path = container.workspace / name
    return path.stat().st_size if path.exists() else 0


def grows(container: Container, name: str = "growing") -> None:
    before = size(container, name)
    until(lambda: size(container, name) > before, what=f"{name} grows")


def stopped(init: Init) -> None:
    """Wait until every process of the workload is stopped."""

    def all_stopped() -> bool:
        below = init.below()
        return bool(below) and all_still(below)

    until(all_stopped, what=f"the workload is frozen: {init.below()}")


def test_it_restores_runs_saves_on_sigterm_and_exits_0(empty):
    script = f"cd {empty.workspace}; trap 'echo bye > last-words; exit 0' TERM; cp README.md copy; touch ready; {LOOP}"
    with Init(empty, script) as init:
        init.await_file("ready")
        init.signal()
        assert init.exit_code() == 0
    tree = empty.remote.tree(empty.wip)
    assert tree[b"copy"][1] == b"hello\n"
    assert tree[b"last-words"][1] == b"bye\n"
    assert tree == empty.files()


def test_unsaved_work_exits_75(empty):
    with Init(empty, f"cd {empty.workspace}; {LOOP}", {"EDIT_STOP_TIMEOUT": "6"}) as init:
        init.await_file("growing")
        empty.remote.path.rename(empty.root / "away.git")
        init.signal()
        assert init.exit_code(10) == 75


def test_twice_sigterm_saves_once(empty):
    empty.remote.hook("pre-receive", f"echo >> {empty.root}/pushing; read line < {empty.root}/go")
    os.mkfifo(empty.root / "go")
    with Init(empty, f"cd {empty.workspace}; echo x > file; exec sleep 1000") as init:
        init.await_file("file")
        init.signal()
        until((empty.root / "pushing").exists, what="the push")
        init.signal()
        init.signal(signal.SIGINT)
        (empty.root / "go").write_text("go\n")
        assert init.exit_code() == 0
        assert len(init.events("ending")) == 1
        assert [e["kind"] for e in init.events("saved")] == ["final"]


def test_sigterm_during_the_restore(empty):
    waiting = empty.root / "waiting"
    os.mkfifo(empty.root / "never")
    command = f"touch {waiting}; read line < {empty.root}/never"
    changed = {"EDIT_CREDENTIAL_COMMAND": command, "EDIT_REMOTE": "http://127.0.0.1:9/x.git"}
    with Init(empty, f"touch {empty.root}/ran", changed) as init:
        until(waiting.exists, what="the restore has begun")
        init.signal()
        assert init.exit_code(10) == 0
    assert not (empty.root / "ran").exists()


def test_a_workload_that_ignores_sigterm(empty):
    script = f"cd {empty.workspace}; trap '' TERM; touch ready; {LOOP}"
    with Init(empty, script, {"EDIT_WORKLOAD_GRACE": "0.3"}) as init:
        init.await_file("ready")
        init.signal()
        assert init.exit_code() == 0
    assert empty.remote.tree(empty.wip) == empty.files()


def test_the_end_comes_within_the_budget_when_the_remote_hangs(empty):
    empty.remote.hook("pre-receive", f"read line < {empty.root}/never")
    os.mkfifo(empty.root / "never")
    with Init(empty, f"cd {empty.workspace}; {LOOP}", {"EDIT_STOP_TIMEOUT": "5"}) as init:
        init.await_file("growing")
        init.signal()
        assert init.exit_code(5) == 75
        saved = init.events("saved")
        assert saved[-1]["reason"] == "Deadline"


@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 75", 76), ("kill -9 $$", 137)])
def test_the_workload_ends_by_itself(empty, end, code):
    with Init(empty, f"cd {empty.workspace}; echo x > file; {end}") as init:
        assert init.exit_code() == code
    assert b"file" in empty.remote.tree(empty.wip)


def test_a_program_that_does_not_exist(empty):
    with Init(empty, "exec /no/such/program") as init:
        assert init.exit_code() == 127


def test_signals_are_forwarded(empty):
    traps = " ".join(f"trap 'echo {name} >> signals' {name};" for name in ("HUP", "USR1", "USR2"))
    with Init(empty, f"cd {empty.workspace}; {traps} touch ready; while :; do sleep 0.02; done") as init:
        init.await_file("ready")
        for name in ("HUP", "USR1", "USR2"):
            init.signal(getattr(signal, f"SIG{name}"))
            init.await_file("signals", name)


def test_the_workload_has_a_process_group_of_its_own(empty):
    with Init(empty, f"cd {empty.workspace}; ps -o pid=,pgid=,sid= -p $$ > ids; {LOOP}") as init:
        init.await_file("growing")
        pid, group, session = (empty.workspace / "ids").read_text().split()
        assert pid == group == session != "1"


def test_orphans_are_reaped(empty):
    orphan = "(sh -c 'exit 0' & exec true) &"
    with Init(empty, f"cd {empty.workspace}; for i in 1 2 3 4 5; do {orphan} wait; done; touch ready; {LOOP}") as init:
        init.await_file("ready")

        def zombies() -> list[int]:
            children = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()
            return [int(pid) for pid in children if " Z " in Path(f"/proc/{pid}/stat").read_text()]

        until(lambda: not zombies(), what="no zombies")
        grows(empty)


def test_checkpoints(empty):
    with Init(empty, f"cd {empty.workspace}; {LOOP}", {"EDIT_CHECKPOINT_INTERVAL": "0.3"}) as init:
        init.await_event("saved", 2)
        grows(empty)
        assert {e["kind"] for e in init.events("saved")} == {"checkpoint"}
    assert empty.wip in empty.remote.refs()


def test_a_killed_container_keeps_its_last_checkpoint(empty):
    script = f"cd {empty.workspace}; echo precious > file; {LOOP}"
    with Init(empty, script, {"EDIT_CHECKPOINT_INTERVAL": "0.2"}) as init:
        init.await_event("saved")
        init.signal(signal.SIGKILL)
        init.exit_code()
    assert empty.remote.tree(empty.wip)[b"file"][1] == b"precious\n"
    assert empty.remote.fsck() == ""


# With a controller


def test_the_workload_starts_when_admitted(empty):
    with Init(empty, f"cd {empty.workspace}; {LOOP}", channel=True) as init:
        until(lambda: getattr(init.client.status(init.target), "phase", "") == AgentPhase.WAITING, what="waiting")
        assert not (empty.workspace / "growing").exists()
        wrong = type(init.target)(init.identity, "127.0.0.1", "arn:of:another", 3, "k1")
        assert isinstance(init.client.keepalive(wrong, 0), Unknown)
        assert not (empty.workspace / "growing").exists()
        init.client.keepalive(init.target, 0)
        assert status_of(init).admitted
        init.await_file("growing")


def test_a_task_that_is_never_admitted(empty):
    script = f"touch {empty.root}/ran"
    with Init(empty, script, {"EDIT_LAUNCH_TIMEOUT": "2"}, channel=True) as init:
        assert init.exit_code(20) == 69
    assert not (empty.root / "ran").exists()


def admitted(init: Init) -> None:
    until(lambda: isinstance(init.client.keepalive(init.target, 0), AgentStatus), what="admission")
    init.await_file("growing")


def status_of(init: Init) -> AgentStatus:
    status = init.client.status(init.target)
    assert isinstance(status, AgentStatus), status
    return status


def drained(init: Init, drain: int) -> DrainState:
    """Ask for a drain and return what the save came to."""
    init.client.drain(init.target, drain)

    def state() -> DrainState:
        view = status_of(init).drain
        assert view is not None
        assert view.id == drain
        return view.state

    until(lambda: state() is not DrainState.SAVING, what="the drain")
    return state()


def test_drain_freezes_cancel_thaws_and_sigterm_finds_nothing_left(empty):
    # One process of the workload leaves its session and its parent.
    escaped = "setsid sh -c 'while :; do echo . >> escaped; sleep 0.02; done' &"
    with Init(empty, f"cd {empty.workspace}; {escaped} {LOOP}", channel=True) as init:
        admitted(init)
        init.await_file("escaped")
        assert drained(init, 1) is DrainState.SAVED
        assert status_of(init).phase is AgentPhase.FROZEN
        stopped(init)
        assert empty.remote.tree(empty.wip) == empty.files()
        init.client.cancel(init.target, 1)
        assert status_of(init).drain is None
        grows(empty)
        grows(empty, "escaped")
        assert drained(init, 2) is DrainState.SAVED
        frozen = empty.files()
        empty.remote.path.rename(empty.root / "away.git")
        init.signal()
        assert init.exit_code() == 0
        assert init.events("saved")[-1]["reason"] == "Unchanged"
    (empty.root / "away.git").rename(empty.remote.path)
    assert empty.remote.tree(empty.wip) == frozen == empty.files()


def test_a_drain_that_fails_lets_the_workload_go_on(empty):
    with Init(empty, f"cd {empty.workspace}; {LOOP}", channel=True) as init:
        admitted(init)
        empty.remote.path.rename(empty.root / "away.git")
        assert drained(init, 1) is DrainState.FAILED
        grows(empty)
        (empty.root / "away.git").rename(empty.remote.path)
        assert drained(init, 1) is DrainState.SAVED
        stopped(init)


def test_busy_holds_a_lease_while_a_command_runs(empty):
    busy = " ".join(f"'{part}'" for part in self_command("busy", "--", "sh", "-c", "touch inside; read x < go; exit 5"))
    with Init(empty, f"cd {empty.workspace}; mkfifo go; {busy}; echo $? > code; {LOOP}", channel=True) as init:
        until(lambda: isinstance(init.client.keepalive(init.target, 0), AgentStatus), what="admission")
        init.await_file("inside")
        assert status_of(init).busy
        (empty.workspace / "go").write_text("go\n")
        init.await_file("code", "5")
        status = status_of(init)
        assert not status.busy
        assert status.last_activity is not None


@pytest.mark.parametrize("url", [{}, {"EDIT_AGENT_URL": "http://127.0.0.1:9"}])
def test_busy_without_an_agent_says_so_and_runs_the_command(url):
    done = subprocess.run(
        self_command("busy", "--", "sh", "-c", "echo ran; exit 4"),
        env={"PATH": os.environ["PATH"], **url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "ran\n")
    assert "runs without one" in done.stderr


def test_busy_hands_signals_on():
    with subprocess.Popen(
        self_command("busy", "--", "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"),
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7


def test_an_agent_that_fails_itself_saves_at_last(empty):
    """Whatever goes wrong in the supervisor, the container's end must not be the work's."""
    code = f"""import sys; sys.path.insert(0, {PACKAGE_PATH!r})
from controller.agent import supervisor
run = supervisor.Supervisor._run
def fail(self):
    run(self)
    if __import__("os").path.exists({str(empty.workspace / "file")!r}):
        raise RuntimeError("a bug")
supervisor.Supervisor._run = fail
from controller.agent.main import main
main()"""
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            code,
            "run",
            "--",
            "sh",
            "-c",
            f"cd {empty.workspace}; echo x > file; {LOOP}",
        ],
        env=empty.env(),
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert done.returncode == 70, done.stderr
    assert "a bug" in done.stderr
    assert b"file" in empty.remote.tree(empty.wip)


def test_who_it_is_comes_from_ecs(empty):
    answer = json.dumps({"TaskARN": ARN, "Containers": [{"Networks": [{"IPv4Addresses": ["127.0.0.2"]}]}]})

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=endpoint.serve_forever, args=(0.05,))
    thread.start()
    try:
        uri = f"http://127.0.0.1:{endpoint.server_address[1]}/v4/abc"
        changed = {"ECS_CONTAINER_METADATA_URI_V4": uri, "EDIT_TASK_ARN": ""}
        with Init(empty, f"cd {empty.workspace}; {LOOP}", changed, channel=True) as init:
            target = Target(init.identity, "127.0.0.2", ARN, 3, "k1")
            until(lambda: isinstance(init.client.keepalive(target, 0), AgentStatus), what="admission")
            init.await_file("growing")
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        thread.join()


def test_silence_ends_the_container(empty):
    changed = {"EDIT_ALLOWED_OUTAGE": "0.5", "AUTO_SHUTDOWN_MINUTES": "0"}
    with Init(empty, f"cd {empty.workspace}; {LOOP}", changed, channel=True) as init:
        until(lambda: isinstance(init.client.keepalive(init.target, 0), AgentStatus), what="admission")
        assert init.exit_code() == 0
        assert init.events("exit")[-1]["cause"] == "silence"
    assert empty.remote.tree(empty.wip) == empty.files()


# As another user


def test_the_workload_as_another_user(empty):
    """The boundary that keeps the credential: another user can read neither the agent's memory nor its directory."""
    if os.geteuid() != 0:
        message = "only root can start a workload as another user. Run the tests as root."
        pytest.fail(message) if IN_CI else pytest.skip(message)
    need_namespace()
    for folder in (empty.root, *empty.root.parents):
        if folder != folder.parent and "pytest" in str(folder):
            folder.chmod(0o755)
    script = f"""cd {empty.workspace}
id -u > who; echo mine >> README.md; git config user.name x; git config user.email x; git commit -qam mine 2> err
cat /proc/1/environ > stolen 2>> err; ls {empty.state} >> stolen 2>> err; env > environment; touch ready; {LOOP}"""
    changed = {
        "EDIT_WORKLOAD_USER": "12345:12345",
        "EDIT_HIDE": "GIT_TOKEN",
        "GIT_TOKEN": "canary-token",
        "HOME": "/tmp",
    }
    with Init(empty, script, changed, channel=True) as init:
        until(lambda: isinstance(init.client.keepalive(init.target, 0), AgentStatus), what="admission")
        init.await_file("ready")
        assert status_of(init).isolated
        init.signal()
        assert init.exit_code() == 0
    assert (empty.workspace / "who").read_text() == "12345\n"
    assert (empty.workspace / "stolen").read_text() == ""
    assert "canary-token" not in (empty.workspace / "environment").read_text()
    assert {path.stat().st_uid for path in (empty.workspace / ".git/HEAD", empty.workspace / "README.md")} == {12345}
    assert empty.remote.tree("main")[b"README.md"][1] == b"hello\nmine\n"
    assert empty.remote.tree(empty.wip) == empty.files()
    assert git(empty.remote.path, "fsck") == ""
