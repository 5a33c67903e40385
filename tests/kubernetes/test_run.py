"""`editctl run --kubernetes` as a person or a pod runs it: a process, kopf in it, an API server and a local AWS."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
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
from tests.kubernetes.test_operator import TOM, body


def probe(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_the_process_follows_objects_survives_the_api_server_and_ends_when_told(
    control_plane: ControlPlane,
    crd: str,
    namespace: str,
    kubectl: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "base" / "role.yaml"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics = f"127.0.0.1:{free.getsockname()[1]}"
    with LocalEndpoint(timings=Timings.fast()) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        settings = {"EDITCTL_SUBNETS": "subnet-1", "EDITCTL_POLL": "1s", "EDITCTL_METRICS_ADDRESS": metrics}
        Assembly(Config(subnets=("subnet-1",)), local=True).create_tables()
        log = tmp_path / "log"
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from controller.cli.main import main; main()",
                    "run",
                    "--kubernetes",
                    "--namespace",
                    namespace,
                ],
                env={**os.environ, **settings, "KUBECONFIG": str(control_plane.account.kubeconfig)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: probe(f"http://{metrics}/readyz") == 200, 30, "ready")
            kubectl("apply", "-n", namespace, "-f", "-", stdin=[body(runPolicy="Always")])
            until(lambda: phase(control_plane, namespace) == "Running", 30, "shown as running")
            assert control_plane.request("GET", path(namespace, "tom")).body["status"]["containerIp"]
            control_plane.restart()
            kubectl("patch", "-n", namespace, "ec", "tom", "--type=merge", "-p", '{"spec":{"runPolicy":"Stopped"}}')
            until(lambda: phase(control_plane, namespace) == "Stopped", 60, "shown as stopped after the outage")
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
    said = log.read_text(encoding="utf-8")
    assert TOM.container_id in said
    assert "Traceback" not in said
    assert "down" in said.splitlines()[-1]


def phase(control_plane: ControlPlane, namespace: str) -> str:
    answer = control_plane.request("GET", path(namespace, "tom"))
    return str((answer.body.get("status") or {}).get("phase", ""))


def test_plain_kopf_run_does_for_development(
    control_plane: ControlPlane,
    crd: str,
    namespace: str,
    kubectl: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "base" / "role.yaml"))
    with LocalEndpoint(timings=Timings.fast()) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        Assembly(Config(subnets=("subnet-1",)), local=True).create_tables()
        settings = {"EDITCTL_SUBNETS": "subnet-1", "EDITCTL_POLL": "1s", "POD_NAMESPACE": namespace}
        log = tmp_path / "log"
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kopf", "run", "--standalone"),
                    *("-n", namespace, "-m", "controller.kubernetes.operator"),
                ],
                env={**os.environ, **settings, "KUBECONFIG": str(control_plane.account.kubeconfig)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            kubectl("apply", "-n", namespace, "-f", "-", stdin=[body(runPolicy="Always")])
            until(lambda: phase(control_plane, namespace) == "Running", 45, "shown as running")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text(encoding="utf-8")
