"""Build kube-apiserver, etcd and kubectl from the Go modules that go.mod and go.sum pin.

Go's caches for it are a folder of their own beside the result: 4 GB that nothing else on the machine needs are gone
when it is done, and a build that was interrupted goes on where it was. A GOMODCACHE or GOCACHE that the environment
names is used as it is, and kept: whoever sets one wants it shared.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.kubernetes.controlplane.programs import (
    BUILT,
    CACHE,
    ENVIRONMENT,
    ETCD,
    KUBERNETES,
    MODULE,
    PROGRAMS,
    VARIABLE,
    Missing,
    Programs,
    find,
    lacking,
)
from tests.kubernetes.controlplane.progress import Progress

PACKAGES = ("./etcd", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl")
NEEDS = 6 << 30
"""Bytes on the disk while it builds: modules 1 GB, Go's build cache 3 GB, and some to spare."""
BUILDING = CACHE / "building"

# What a release build has: no paths of this machine, no debug information, and the version that clients ask for.
_VERSION = "k8s.io/component-base/version."
_LINK = f"-s -w -X {_VERSION}gitVersion=v{KUBERNETES} " + " ".join(
    f"-X {_VERSION}{name}={number}"
    for name, number in zip(("gitMajor", "gitMinor"), KUBERNETES.split("."), strict=False)
)
_FLAGS = ("-trimpath", "-modcacherw", "-buildvcs=false")


def ensure(progress: Progress) -> Programs:
    """Return the programs, built if they are not there yet. Raises Missing."""
    if ENVIRONMENT.get(VARIABLE) or not lacking(BUILT):
        return find()
    go = _go()
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(progress):
        # Whoever had the lock may have built it meanwhile.
        if lacking(BUILT):
            _build(go, progress)
    return Programs(BUILT)


def _go() -> str:
    found = shutil.which("go", path=ENVIRONMENT.get("PATH"))
    if found is None:
        raise Missing(
            "Kubernetes' API server cannot be built: there is no Go on the PATH. "
            "Install Go 1.26 or newer (go.dev, or your system's package manager), "
            f"or let {VARIABLE} name a folder with {', '.join(PROGRAMS)} (setup-envtest downloads them)."
        )
    asked = subprocess.run([found, "version"], cwd=MODULE, env=_environment(), capture_output=True, text=True)
    if asked.returncode:
        # Go names the version that it is and the one that go.mod wants, and what became of getting that.
        raise Missing(f"Kubernetes' API server cannot be built with the Go on the PATH: {asked.stderr.strip()}")
    return found


def _environment() -> Mapping[str, str]:
    # No C compiler, no workspace above this folder, nothing for another machine.
    kept = {k: v for k, v in ENVIRONMENT.items() if k not in ("GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT")}
    own = {"GOMODCACHE": str(BUILDING / "modules"), "GOCACHE": str(BUILDING / "cache")}
    return {**own, **kept, "CGO_ENABLED": "0", "GOWORK": "off"}


def _build(go: str, progress: Progress) -> None:
    free = shutil.disk_usage(CACHE).free
    if free < NEEDS:
        raise Missing(
            f"Kubernetes' API server cannot be built: {CACHE} has {free / 2**30:.1f} GiB free, and it takes "
            f"{NEEDS >> 30} while it builds (220 MB remain). Make room, or let XDG_CACHE_HOME name another place."
        )
    again = BUILDING.exists()
    progress.say(
        f"Building Kubernetes {KUBERNETES} (kube-apiserver, kubectl) and etcd {ETCD} from their Go modules, once:\n"
        f"  about 7 minutes on 2 cores, 2.4 GB of memory, 4 GB of disk until it is done.\n"
        f"  Into {BUILT}" + ("\n  A build was interrupted: going on where it was." if again else "")
    )
    binaries = BUILDING / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    _modules(go, progress)
    total = len(_stale(go))
    progress.begin()
    with _started([go, "build", "-v", *_FLAGS, "-ldflags", _LINK, "-o", f"{binaries}{os.sep}", *PACKAGES]) as lines:
        done = 0
        for line in lines:
            # With -v each package is named when its turn comes; anything else that Go says is for a person.
            if " " in line or ":" in line:
                progress.say(line)
                continue
            done += 1
            progress.show("packages", done, max(total, done))
    progress.end(f"built {', '.join(PROGRAMS)}")
    _keep(binaries)
    sizes = ", ".join(f"{name} {(BUILT / name).stat().st_size / 1e6:.0f} MB" for name in PROGRAMS)
    progress.say(f"  kept {sizes}; what it took to build them is removed")


def _modules(go: str, progress: Progress) -> None:
    progress.begin()
    progress.say("  fetching the modules (1 GB on the disk)")
    with _started([go, "mod", "download", "-modcacherw"]) as lines:
        for line in lines:
            progress.say(f"  {line}")
    progress.end("modules are there, with the checksums of go.sum")


def _stale(go: str) -> list[str]:
    """Return the packages that are still to be compiled; after an interruption these are fewer."""
    listed = subprocess.run(
        [go, "list", *_FLAGS, "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *PACKAGES],
        cwd=MODULE,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def _keep(binaries: Path) -> None:
    """Give the programs their final name in one step, so that nobody ever finds a part of them."""
    if missing := lacking(binaries):
        raise Missing(f"go build ended well and left no {', '.join(missing)}: this is a fault of the build")
    shutil.rmtree(BUILT, ignore_errors=True)
    binaries.rename(BUILT)
    shutil.rmtree(BUILDING)


@contextmanager
def _started(command: list[str]) -> Iterator[Iterator[str]]:
    """Run a command and hand out its lines; it does not outlive this, however this ends."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        # A process group of its own: the compilers that go starts must end with it.
        process = subprocess.Popen(
            command,
            cwd=MODULE,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            yield _copied(process.stdout, kept)
            code = process.wait()
        finally:
            _end(process)
        if code:
            kept.seek(0)
            said = [line for line in kept.read().splitlines() if " " in line or ":" in line]
            raise Missing(
                f"`go {command[1]}` failed with exit code {code}:\n" + "\n".join(f"  {line}" for line in said[-15:])
            )


def _copied(lines: IO[str], kept: IO[str]) -> Iterator[str]:
    for line in lines:
        kept.write(line)
        yield line.rstrip()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    # Not SIGKILL at once: go removes its folder of temporary files when it is asked to end.
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            process.wait()
        return


@contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    """Let one process build at a time. The lock goes with the process, however that ends."""
    with (CACHE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another build of the control plane is at work: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Find or build the programs, say where they are, and return the exit code."""
    if threading.current_thread() is threading.main_thread():
        # `kill` ends it as Ctrl-C does: with the compilers that it started.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Progress(sys.stderr)
    try:
        programs = ensure(progress)
    except Missing as missing:
        progress.say(f"error: {missing}")
        return 1
    except KeyboardInterrupt:
        progress.say("interrupted: nothing half-built is used, and the next `make control-plane` goes on from here")
        return 1
    sys.stdout.write(f"kube-apiserver, etcd and kubectl are in {programs.folder}\n")
    return 0
