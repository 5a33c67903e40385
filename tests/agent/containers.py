"""Real containers for the agent: podman in a network of its own, an image without a registry, ECS's metadata.

Everything is in a network namespace that this thread enters and leaves: the bridge, its addresses and every port are
seen by nobody else on this machine, and nothing in it leads out of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from manifests.docker import debian_base
from tests.agent.world import until
from tests.contract.engines import HOST
from tests.manifests.podman import Podman

GATEWAY = "10.88.0.1"
"""This machine's end of podman's default bridge."""
NETWORK = """netns = "bridge"
base_hosts_file = "{folder}/hosts"
[network]
default_subnet = "10.88.0.0/16"
network_config_dir = "{folder}/networks"
"""
# podman 4.3 writes ministack's "host-gateway" into a container's hosts as it is; this line is what is meant.
HOSTS = f"127.0.0.1 localhost\n{GATEWAY} host.docker.internal\n"

IMAGE = "localhost/edit-container:test"
PACKAGES = ("python3", "git", "bash", "coreutils", "dash")
AGENT = "/opt/edit-agent"
_BESIDE = ("__init__.py", "errors.py", "core/__init__.py", "core/identity.py")
# As self_command starts the agent, but from the image's own place.
ENTRY = [
    "/usr/bin/python3",
    "-I",
    "-S",
    "-c",
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from controller.agent.main import main; main()",
    AGENT,
    "run",
    "--",
]

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IP_FREEBIND = 15
_SERVICE_TIMEOUT = 20
_STOP_TIMEOUT = 10
_FORWARD_TIMEOUT = 5


# The network


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, and what it starts, into a network of its own. Raises OSError where that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
            yield
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET) != 0:
                # Every later test of this process would run without a network.
                os._exit(1)


# The image


def make_image(podman: Podman) -> None:
    """Import the agent on packages of this machine, as manifests/docker/edit.Dockerfile lays it out."""
    tar = podman.folder / "image.tar"
    assert debian_base.main(str(tar), *PACKAGES) == 0
    root = Path(__file__).parents[2]
    with tarfile.open(tar, "a") as image:
        for name, mode, owner in (
            ("workspace", 0o755, 1000),
            ("var/lib/edit-agent", 0o700, 0),
        ):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, mode, owner, owner
            image.addfile(folder)
        # The agent's own files and no others: what a user's image holds.
        source = root / "controller"
        for path in (*sorted((source / "agent").glob("*.py")), *(source / part for part in _BESIDE)):
            image.add(path, f"{AGENT.lstrip('/')}/{path.relative_to(root)}", filter=_of_root)
    changes = (f"ENTRYPOINT {json.dumps(ENTRY)}", "ENV EDIT_WORKLOAD_USER=1000:1000", "WORKDIR /workspace")
    done = podman("import", "--quiet", *(f"--change={change}" for change in changes), str(tar), IMAGE)
    assert done.returncode == 0, done.stderr
    tar.unlink()


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.mode = 0o644
    return entry


def image_python() -> tuple[int, ...]:
    """Return the version of the Python that the image gets, (0,) where there is none."""
    code = "import sys; print(*sys.version_info[:2])"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        told = subprocess.run(["/usr/bin/python3", "-c", code], check=True, capture_output=True, text=True).stdout
        return tuple(int(part) for part in told.split())
    return (0,)


# The engine


class Engine:
    """podman behind Docker's API, in the network that this thread is in."""

    def __init__(self, podman: Podman) -> None:
        self.podman = podman
        self.socket = podman.folder / "api"
        (podman.folder / "hosts").write_text(HOSTS)
        networks = podman.folder / "networks"
        networks.mkdir(exist_ok=True)
        if self._asks("info", "--format", "{{.Host.NetworkBackend}}") == "cni":
            (networks / "podman.conflist").write_text(json.dumps(self._bridge()))
        self._log = (podman.folder / "service.log").open("wb")
        self._service = subprocess.Popen(
            ["podman", "system", "service", "--time=300", f"unix://{self.socket}"],
            env=podman.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            until(self.socket.exists, _SERVICE_TIMEOUT, "podman's socket")
        except AssertionError as e:
            self.close()
            e.add_note(self.log())
            raise

    def _bridge(self) -> dict[str, object]:
        """Return podman's default bridge, its leases in our folder and not in /var/lib."""
        ipam = {
            "type": "host-local",
            "dataDir": str(self.podman.folder / "leases"),
            "ranges": [[{"subnet": "10.88.0.0/16", "gateway": GATEWAY}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "cni-podman0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
        return {"cniVersion": "0.4.0", "name": "podman", "plugins": [bridge]}

    def containers(self) -> list[str]:
        """Return the ids of all containers, those that have ended too."""
        return self._asks("ps", "--all", "--quiet", "--no-trunc").split()

    def container_of(self, arn: str) -> str:
        """Return the id of a task's container."""
        (found,) = self._asks(
            "ps", "--all", "--quiet", "--no-trunc", f"--filter=label=com.amazonaws.ecs.task-arn={arn}"
        ).split()
        return found

    def inside(self, container: str, script: str) -> str:
        """Run a shell script beside the workload, as its user, and return what it printed."""
        return self._asks("exec", "--user=1000:1000", container, "sh", "-c", script)

    def kill(self, container: str) -> None:
        """Kill a container, as a machine does that fails: nothing in it hears of it."""
        self._asks("kill", "--signal=KILL", container)

    def environment_of(self, container: str) -> list[str]:
        """Return a container's environment as everybody reads it who may look at the engine."""
        told: list[str] = json.loads(self._asks("inspect", "--format", "{{json .Config.Env}}", container))
        return told

    def _asks(self, *arguments: str) -> str:
        done = self.podman(*arguments)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def log(self) -> str:
        """Return what podman wrote, and what every container wrote that is still there."""
        parts = [(self.podman.folder / "service.log").read_text(errors="replace")[-4000:]]
        for container in self.podman("ps", "--all", "--quiet").stdout.split():
            done = self.podman("logs", container)
            parts.append(f"container {container}:\n{done.stdout}{done.stderr}")
        return "\n".join(parts)

    def close(self) -> None:
        """End the service; containers and images go with the store."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._service.poll() is None:
                self._service.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._service.wait(_STOP_TIMEOUT)
                break
        self._log.close()


# The task metadata endpoint


class Metadata(socketserver.ThreadingTCPServer):
    """ministack's task metadata for containers, at the bridge's gateway: the one thing that they reach there.

    ministack knows the ARN and not the address. Whoever asks has it, so it is added, where AWS has it.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__((GATEWAY, port), _MetadataHandler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="metadata", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Take the address before the bridge is there, which comes with the first container."""
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        super().server_bind()

    def close(self) -> None:
        """Stop answering."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _MetadataHandler(BaseHTTPRequestHandler):
    server: Metadata
    timeout = _FORWARD_TIMEOUT

    def do_GET(self) -> None:
        status, body = self._ask() if self.path.startswith("/v4/") else (http.HTTPStatus.NOT_FOUND, b"")
        if status == http.HTTPStatus.OK and self.path.endswith("/task"):
            task = json.loads(body)
            for container in task["Containers"]:
                container["Networks"] = [{"NetworkMode": "awsvpc", "IPv4Addresses": [self.client_address[0]]}]
            body = json.dumps(task).encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _ask(self) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.server.server_address[1], timeout=_FORWARD_TIMEOUT)
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: these are a task's own questions."""


# A controller


class Controller:
    """`editctl run` as a process."""

    def __init__(self, log: Path, settings: dict[str, str]) -> None:
        self._path = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "controller.cli", "run", "--log-format", "json"],
                env={**os.environ, **{f"EDITCTL_{name.upper()}": value for name, value in settings.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        """Return what it wrote."""
        return self._path.read_text(errors="replace")

    def end(self) -> int:
        """End it in order and return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_TIMEOUT)

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
