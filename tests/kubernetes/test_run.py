"""`editctl run --kubernetes` as a person or a pod runs it: a process, kopf in it, an API server and a local AWS."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.assembly import Assembly
from controller.config import Config
from controller.local.ecs import Timings
from controller.local.server import LocalEndpoint
from tests.agent.world import until
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.objects import MANIFESTS, path
from tests.kubernetes.test_operator import ANN, TOM, body

EDITCTL = (sys.executable, "-c", "from controller.cli.main import main; main()")


def probe(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Place:
    """A namespace, a local AWS, and where processes that see both say what they do."""

    control_plane: ControlPlane
    namespace: str
    assembly: Assembly
    log: Path
    metrics: str

    @contextmanager
    def process(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        settings = {
            "EDITCTL_SUBNETS": "subnet-1",
            "EDITCTL_POLL": "1s",
            "EDITCTL_METRICS_ADDRESS": self.metrics,
            "KUBECONFIG": str(self.control_plane.account.kubeconfig),
            "POD_NAMESPACE": self.namespace,
        }
        with self.log.open("a", encoding="utf-8") as out:
            process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, *more: str) -> Any:
        return self.process(*EDITCTL, "run", "--kubernetes", "--namespace", self.namespace, *more)

    def ready(self) -> bool:
        return probe(f"http://{self.metrics}/readyz")[0] == 200

    def rounds(self) -> float:
        _, text = probe(f"http://{self.metrics}/metrics")
        return sum(float(line.split()[-1]) for line in text.splitlines() if "editctl_round_seconds_count" in line)

    def patches(self) -> int:
        """Return how many patches the API server was asked for."""
        asked = self.control_plane.asked(self.namespace)
        return sum(each.verb == "patch" and each.at == "ResponseComplete" for each in asked)

    def status(self, name: str = "tom") -> dict[str, Any]:
        answer = self.control_plane.request("GET", path(self.namespace, name))
        return answer.body.get("status") or {} if answer.status == 200 else {}

    def phase(self, name: str = "tom") -> str:
        return str(self.status(name).get("phase", ""))

    def said(self, event: str = "") -> list[str]:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if event in ["", *line.split()[1:3]]]


@pytest.fixture
def place(
    control_plane: ControlPlane,
    crd: str,
    namespace: str,
    kubectl: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "base" / "role.yaml"))
    with LocalEndpoint(timings=Timings.fast()) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        assembly = Assembly(Config(subnets=("subnet-1",)), local=True)
        assembly.create_tables()
        yield Place(control_plane, namespace, assembly, tmp_path / "log", f"127.0.0.1:{free_port()}")


def test_the_process_follows_objects_survives_the_api_server_and_ends_when_told(
    place: Place, kubectl: Callable[..., Any]
) -> None:
    with place.run() as process:
        until(place.ready, 30, "ready")
        kubectl("apply", "-n", place.namespace, "-f", "-", stdin=[body(runPolicy="Always")])
        until(lambda: place.phase() == "Running", 30, "shown as running")
        assert place.status()["containerIp"]
        assert 1 <= place.patches() <= 2
        rounds = place.rounds()
        until(lambda: place.rounds() >= rounds + 5, 30, "five more rounds")
        assert place.patches() <= 2, "at rest nothing is written"
        place.control_plane.restart()
        kubectl("patch", "-n", place.namespace, "ec", "tom", "--type=merge", "-p", '{"spec":{"runPolicy":"Stopped"}}')
        until(lambda: place.phase() == "Stopped", 60, "shown as stopped after the outage")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    said = place.said()
    assert any(TOM.container_id in line for line in said)
    assert "Traceback" not in "\n".join(said)
    assert "down" in said[-1]


def test_without_an_api_server_it_does_its_work_and_says_why_it_is_not_ready(
    place: Place, kubectl: Callable[..., Any]
) -> None:
    registry = place.assembly.registry()
    place.control_plane.stop()
    try:
        with place.run():
            registry.open("s1", TOM)
            until(lambda: _record_status(place) == "running", 30, "it runs all the same")
            code, why = probe(f"http://{place.metrics}/readyz")
            assert code == 503
            assert "the EditContainers are not listed yet: " in why
            assert "refused" in why
            place.control_plane.start()
            until(place.ready, 60, "ready")
            until(lambda: place.phase(TOM.kubernetes_name) == "Running", 30, "mirrored")
            until(lambda: len(place.said("kubernetes")) == 2, 30, "told that it is back")
            gone, back = place.said("kubernetes")
            assert "AWS is reconciled all the same" in gone
            assert "answers again" in back
    finally:
        if not place.control_plane.answers():
            place.control_plane.start()


def _record_status(place: Place) -> str:
    record = place.assembly.tables.get_record(TOM.container_id)
    return str(record.status) if record else ""


def test_one_that_was_killed_is_followed_by_one_that_goes_on(place: Place, kubectl: Callable[..., Any]) -> None:
    with place.run() as process:
        until(place.ready, 30, "ready")
        stdin = [body(runPolicy="Always"), body("ann", ANN, runPolicy="Always")]
        kubectl("apply", "-n", place.namespace, "-f", "-", stdin=stdin)
        until(lambda: (place.phase(), place.phase("ann")) == ("Running", "Running"), 30, "both run")
        process.kill()
        process.wait(10)
    # While nobody looks, one is deleted and one edited. No finalizer keeps it.
    kubectl("delete", "-n", place.namespace, "ec", "ann", "--timeout=10s")
    kubectl("patch", "-n", place.namespace, "ec", "tom", "--type=merge", "-p", '{"spec":{"runPolicy":"Stopped"}}')
    with place.run() as process:
        until(lambda: place.phase() == "Stopped", 60, "the edit is followed")
        until(lambda: not _declared(place), 30, "what was deleted is taken back")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert "Traceback" not in "\n".join(place.said())


def _declared(place: Place) -> bool:
    record = place.assembly.tables.get_record(ANN.container_id)
    return record is None or record.declared is not None


def test_plain_kopf_run_does_for_development(place: Place, kubectl: Callable[..., Any]) -> None:
    command = ("-m", "kopf", "run", "--standalone", "-n", place.namespace, "-m", "controller.kubernetes.operator")
    with place.process(sys.executable, *command) as process:
        kubectl("apply", "-n", place.namespace, "-f", "-", stdin=[body(runPolicy="Always")])
        until(lambda: place.phase() == "Running", 45, "shown as running")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "Traceback" not in "\n".join(place.said())
