"""The harness: an API server of one's own, that is strict, can be restarted, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.core.identity import ContainerIdentity
from controller.kubernetes import resource
from tests.kubernetes.cluster import HOST, NAMESPACE, SERVICE_ACCOUNT, ControlPlane
from tests.kubernetes.controlplane.programs import KUBERNETES
from tests.kubernetes.objects import ROOT, path

TOM = ContainerIdentity("acme", "blog", "tom")

# A test run in small: it starts a control plane, says which processes that are, and waits.
RUN = """
import sys
from pathlib import Path
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.controlplane.programs import Programs
made = ControlPlane(Programs(Path(sys.argv[1])), Path(sys.argv[2]))
print(*made.pids(), flush=True)
sys.stdin.read()
"""


def test_it_is_the_pinned_version_and_listens_here_only(control_plane):
    version = control_plane.request("GET", "/version").body["gitVersion"]
    # A KUBEBUILDER_ASSETS of somebody's own may be another one.
    assert version.startswith("v1.") if "KUBEBUILDER_ASSETS" in os.environ else version == f"v{KUBERNETES}"
    assert control_plane.url.startswith(f"https://{HOST}:")


def test_nobody_may_do_anything_without_a_role(control_plane, crd, namespace):
    answer = control_plane.request("GET", path(namespace), access=control_plane.stranger)
    assert answer.status == 403
    assert "system:serviceaccount:default:stranger" in answer.message
    answer = control_plane.request("GET", path(namespace), access=control_plane.account)
    assert answer.status == 403
    assert f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}" in answer.message


def test_kubectl_is_who_it_is_told_to_be(control_plane):
    for access, name in ((control_plane.admin, "admin"), (control_plane.stranger, "default:stranger")):
        assert name in control_plane.kubectl("auth", "whoami", access=access).stdout


def test_a_restart_keeps_what_was_stored_and_the_address(control_plane, crd, namespace):
    url, certificate, pids = control_plane.url, control_plane.certificate, control_plane.pids()
    made = control_plane.request("POST", path(namespace), resource.mirror_of(TOM, namespace))
    control_plane.restart()
    assert (control_plane.url, control_plane.certificate) == (url, certificate)
    assert set(control_plane.pids()) != set(pids)
    again = control_plane.request("GET", path(namespace, "acme-blog-tom"))
    assert again.body["metadata"]["uid"] == made.body["metadata"]["uid"]


def test_while_it_is_stopped_nobody_answers(control_plane):
    control_plane.stop()
    try:
        with pytest.raises(OSError, match="refused"):
            control_plane.request("GET", "/version")
    finally:
        control_plane.start()
    assert control_plane.request("GET", "/version").status == 200


@pytest.mark.parametrize("end", ["closed", "interrupted", "killed"])
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of the end of somebody else's process")
def test_nothing_outlives_the_test_run(control_plane: ControlPlane, tmp_path: Path, end: str):
    folder = tmp_path / "own"
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(control_plane.programs.folder), str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert run.stdin is not None
    assert run.stdout is not None
    pids = [int(each) for each in run.stdout.readline().split()]
    assert len(pids) == 2
    watched = [os.pidfd_open(pid) for pid in pids]
    if end == "closed":
        run.stdin.close()
    else:
        run.send_signal(signal.SIGINT if end == "interrupted" else signal.SIGKILL)
    for each in watched:
        ended, _, _ = select.select([each], [], [], 30)
        assert ended, "it outlives the run that started it"
        os.close(each)
    run.wait(30)
    run.stdout.close()
    if not run.stdin.closed:
        run.stdin.close()
