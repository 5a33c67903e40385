"""How the control plane is found and built: with a Go that only pretends, since the real one takes 7 minutes."""

from __future__ import annotations

import io
import os
import pty
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kubernetes.controlplane.build import NEEDS
from tests.kubernetes.controlplane.programs import BUILT, ETCD, HOW_TO_GET_IT, KUBERNETES, MODULE, PROGRAMS
from tests.kubernetes.controlplane.progress import EVERY, Progress, lasted
from tests.kubernetes.objects import ROOT

# Strict: it takes the calls that are made, in the surroundings that they need, and no others.
GO = """#!/bin/bash
set -eu
log="$FAKE/calls"
[[ $CGO_ENABLED == 0 && $GOWORK == off && $PWD == "$MODULE" && -z ${GOOS:-} ]] || { echo "wrong surroundings"; exit 9; }
[[ $GOMODCACHE == /* && $GOCACHE == /* ]] || { echo "no caches"; exit 9; }
echo "$1 $GOMODCACHE $GOCACHE" >> "$log"
case "$1" in
version)
    if [[ -e $FAKE/too-old ]]; then echo "go: go.mod requires go >= 1.26.0" >&2; exit 1; fi
    echo "go version go1.26.8" ;;
mod) [[ $2 == download && $3 == -modcacherw ]]; mkdir -p "$GOMODCACHE/a"; touch "$GOMODCACHE/a/module" ;;
list) printf 'fmt\\nio\\nk8s.io/x\\n' ;;
build)
    [[ " $* " == *" -trimpath "* && " $* " == *" -modcacherw "* && " $* " == *"gitVersion=v"* ]]
    mkdir -p "$GOCACHE"; touch "$GOCACHE/object"
    while [[ $1 != -o ]]; do shift; done
    out=$2; shift 2
    printf 'fmt\\nio\\n'
    if [[ -e $FAKE/broken ]]; then echo "# k8s.io/x"; echo "x.go:1:1: undefined: y"; exit 1; fi
    printf '#!/bin/sh\\n' > "$out/etcd"; chmod +x "$out/etcd"
    echo $$ > "$FAKE/pid"
    # Whoever opens the other end knows that it is in the middle, and lets it go on by closing it.
    if [[ -e $FAKE/gate ]]; then read -r < "$FAKE/gate" || true; fi
    echo k8s.io/x
    for package in "$@"; do printf '#!/bin/sh\\n' > "$out/${package##*/}"; chmod +x "$out/${package##*/}"; done ;;
*) echo "not taken: $*" >&2; exit 9 ;;
esac
"""


@dataclass
class Machine:
    """A home with a Go, and what it was asked."""

    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        for name in ("bash", "mkdir", "touch", "chmod"):
            found = shutil.which(name)
            assert found
            (self.folder / "bin" / name).symlink_to(found)
        go = self.folder / "bin" / "go"
        go.write_text(GO.replace("#!/bin/bash", f"#!{shutil.which('bash')}"), encoding="utf-8")
        go.chmod(0o755)

    @property
    def built(self) -> Path:
        return self.folder / "cache" / "editctl" / "control-plane" / BUILT.name

    @property
    def building(self) -> Path:
        return self.built.parent / "building"

    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return [line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []

    def start(self) -> subprocess.Popen[str]:
        environment = {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "FAKE": str(self.folder),
            "MODULE": str(MODULE),
            "GOOS": "plan9",
            **self.more,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.kubernetes.controlplane"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str, str]:
        """Return exit code, answer and what was said meanwhile."""
        with self.start() as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def gate(self) -> Path:
        path = self.folder / "gate"
        os.mkfifo(path)
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if shutil.disk_usage(tmp_path).free < NEEDS:
        pytest.skip(f"the disk has less than {NEEDS >> 30} GiB free, without which nothing is built")
    return Machine(tmp_path)


def test_it_is_built_once_and_only_the_three_programs_are_kept(machine):
    code, out, err = machine.run()
    assert code == 0, err
    assert out == f"kube-apiserver, etcd and kubectl are in {machine.built}\n"
    assert sorted(each.name for each in machine.built.iterdir()) == sorted(PROGRAMS)
    assert not machine.building.exists()
    assert f"Kubernetes {KUBERNETES}" in err
    assert f"etcd {ETCD}" in err
    assert "about 7 minutes" in err
    asked = machine.calls()
    assert asked == ["version", "mod", "list", "build"]
    assert machine.run() == (0, out, "")
    assert machine.calls() == asked


def test_caches_that_the_environment_names_are_used_and_kept(machine):
    machine.more = {"GOMODCACHE": str(machine.folder / "mine"), "GOCACHE": str(machine.folder / "objects")}
    assert machine.run()[0] == 0
    assert (machine.folder / "mine" / "a" / "module").exists()
    assert (machine.folder / "objects" / "object").exists()


def test_without_go_it_says_what_to_do(machine):
    (machine.folder / "bin" / "go").unlink()
    code, out, err = machine.run()
    assert (code, out) == (1, "")
    assert err.startswith("error: Kubernetes' API server cannot be built: there is no Go on the PATH. Install Go 1.26")
    assert "KUBEBUILDER_ASSETS" in err


def test_a_go_that_is_too_old_says_so_itself(machine):
    (machine.folder / "too-old").touch()
    code, _, err = machine.run()
    assert code == 1
    assert "go.mod requires go >= 1.26.0" in err


def test_a_failed_build_shows_the_compilers_words_and_leaves_no_program(machine):
    (machine.folder / "broken").touch()
    code, _, err = machine.run()
    assert code == 1
    assert "error: `go build` failed with exit code 1:" in err
    assert "x.go:1:1: undefined: y" in err
    assert not machine.built.exists()
    (machine.folder / "broken").unlink()
    code, _, err = machine.run()
    assert code == 0
    assert "going on where it was" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_an_interrupted_build_leaves_nothing_half_and_is_gone_on_with(machine, number):
    gate = machine.gate()
    with machine.start() as process:
        with gate.open("w"):  # it is in the middle
            assert (machine.building / "bin" / "etcd").exists()
            compiler = int((machine.folder / "pid").read_text())
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            assert not machine.built.exists()
            if number == signal.SIGKILL:
                # Nobody could end it; it ends by itself, and what it leaves has no final name.
                os.killpg(compiler, signal.SIGKILL)
            else:
                assert process.returncode == 1
                assert "interrupted" in err
                with pytest.raises(ProcessLookupError):
                    os.kill(compiler, 0)
    gate.unlink()
    code, _, err = machine.run()
    assert code == 0, err
    assert "going on where it was" in err
    assert sorted(each.name for each in machine.built.iterdir()) == sorted(PROGRAMS)


def test_the_second_of_two_waits_and_uses_what_the_first_made(machine):
    gate = machine.gate()
    with machine.start() as first:
        with gate.open("w"):  # the first is in the middle
            second = machine.start()
            assert second.stderr is not None
            assert "waiting for it" in second.stderr.readline()
        # The gate is closed: the first goes on.
        first.communicate(timeout=60)
        out, err = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), err
    assert out.startswith("kube-apiserver, etcd and kubectl are in")
    assert machine.calls().count("build") == 1


def test_a_folder_that_lost_a_program_is_built_again(machine):
    assert machine.run()[0] == 0
    (machine.built / "kubectl").unlink()
    assert machine.run()[0] == 0
    assert (machine.built / "kubectl").exists()


def test_kubebuilder_assets_come_first(machine):
    assets = machine.folder / "assets"
    assets.mkdir()
    machine.more = {"KUBEBUILDER_ASSETS": str(assets)}
    code, out, err = machine.run()
    assert (code, out) == (1, "")
    assert "etcd, kube-apiserver, kubectl cannot be run there" in err
    for name in PROGRAMS:
        (assets / name).write_text("#!/bin/sh\n")
        (assets / name).chmod(0o755)
    assert machine.run() == (0, f"kube-apiserver, etcd and kubectl are in {assets}\n", "")
    assert machine.calls() == []


# Without it


@pytest.mark.parametrize("on_ci", [False, True], ids=["a person", "CI"])
def test_without_it_a_person_is_told_and_ci_fails(tmp_path, on_ci):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        **({"CI": "true"} if on_ci else {}),
    }
    one = "tests/kubernetes/test_shown.py::test_conditions_can_be_waited_for"
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={tmp_path / 'pytest'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, one],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert HOW_TO_GET_IT in done.stdout, done.stdout + done.stderr
    if on_ci:
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert "on CI these tests may not be skipped" in done.stdout
    else:
        assert done.returncode == pytest.ExitCode.OK
        assert f"1 skipped: {HOW_TO_GET_IT}" in done.stdout


# Progress


class FakeSeconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_in_a_pipe_there_is_a_line_now_and_then():
    clock, out = FakeSeconds(), io.StringIO()
    progress = Progress(out, clock)
    progress.begin()
    for done in range(1, 62):
        clock.now += 1
        progress.show("packages", done, 2379)
    clock.now += 300
    progress.end("built")
    lines = out.getvalue().splitlines()
    assert lines == ["  packages: 30 of 2,379, 30 s", "  packages: 60 of 2,379, 1 min 00 s", "  built (6 min 01 s)"]
    assert EVERY == 30


def test_on_a_terminal_one_line_is_rewritten_and_then_gone():
    leader, follower = pty.openpty()
    clock = FakeSeconds()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        progress = Progress(terminal, clock)
        progress.begin()
        progress.show("packages", 1, 3)
        progress.show("packages", 2, 3)
        progress.end("built")
        seen = ""
        while not seen.endswith("\n"):  # a terminal hands on in pieces what was written at once
            seen += os.read(leader, 4096).decode()
    os.close(leader)
    assert seen == "\r  packages: 1 of 3, 0 s\r  packages: 2 of 3, 0 s\r                       \r  built (0 s)\r\n"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (433, "7 min 13 s")])
def test_how_long_it_took_is_said_in_words(seconds, said):
    assert lasted(seconds) == said
