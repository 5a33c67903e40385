"""A Kubernetes control plane of this process: etcd and kube-apiserver on ports of loopback, RBAC on, nothing else.

No controller manager, no scheduler, no nodes: an object is stored, validated, watched and refused as on any cluster,
and nobody acts on it. One is made for each test process, so that a test may restart it without another one noticing.
Ready in 2 to 3 s; 320 MB. It ends with the process that made it, however that ends.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kubernetes.controlplane.programs import Programs

HOST = "127.0.0.1"
NAMESPACE = SERVICE_ACCOUNT = "editctl"
"""Where and as whom the controller runs, as manifests/kubernetes has it."""

READY_WITHIN = 60.0
ASK_EVERY = 0.05
STOP_WITHIN = 10.0
TRIES = 3
"""A port that was free a moment ago may be taken."""

# It holds the reading end of a pipe: when the writing end is gone, so is whoever started the programs.
_KEEPER = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
alive = set()
for line in sys.stdin:
    sign, pid = line[0], int(line[1:])
    (alive.add if sign == "+" else alive.discard)(pid)
for pid in alive:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


# What is asked of our objects and of events, by whom, and the answer; written before the next request is.
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "resources": [{"group": "webordinary.com"}, {"group": "", "resources": ["events"]}]},
        {"level": "None"},
    ],
}


class NotReady(Exception):
    """A program ended, or did not answer in time; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that the API server answered, by its own account."""

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str
    status: int
    at: str
    """What of it was over: ResponseComplete, or ResponseStarted for a watch that goes on."""


@dataclass(frozen=True, slots=True)
class Access:
    """Somebody whom the API server knows by a token."""

    token: str
    kubeconfig: Path


class ControlPlane:
    """etcd and kube-apiserver with an empty store."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        folder.mkdir(parents=True)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-c", _KEEPER, str(folder)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._pause = threading.Event()
        self._write_keys()
        (self.folder / "audit.json").write_text(json.dumps(_AUDIT), encoding="utf-8")
        for attempt in range(1, TRIES + 1):
            try:
                self._start()
                break
            except NotReady:
                self._end_all()
                if attempt == TRIES:
                    self.close()
                    raise
        self.admin = self._access("admin")
        self.account = self._access("account")
        """The controller's account, as manifests/kubernetes has it."""
        self.stranger = self._access("stranger")
        """An account that nobody gave anything."""

    # Asking it

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port}"

    @property
    def certificate(self) -> bytes:
        """What its certificate is signed by, as PEM."""
        return (self.folder / "certificates" / "apiserver.crt").read_bytes()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        access: Access | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Return the answer to one request, an error too. Without access it is the administrator's."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {(access or self.admin).token}", "Content-Type": content_type},
        )
        try:
            with urllib.request.urlopen(request, context=self._trust(), timeout=STOP_WITHIN) as response:
                return Answer(response.status, _parsed(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _parsed(error.read()))

    def merge(self, path: str, body: Any, *, access: Access | None = None) -> Answer:
        """Return the answer to a JSON merge patch."""
        return self.request("PATCH", path, body, access=access, content_type="application/merge-patch+json")

    def kubectl(
        self, *arguments: str, stdin: Any = None, access: Access | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl, as the administrator if nobody else is named. stdin: text, or objects to be written."""
        text = stdin if isinstance(stdin, str) or stdin is None else as_stream(stdin)
        done = subprocess.run(
            [
                str(self.programs.kubectl),
                f"--kubeconfig={(access or self.admin).kubeconfig}",
                # HOME is emptied after each test, and with it what was learnt about the server.
                f"--cache-dir={self.folder / 'kubectl'}",
                *arguments,
            ],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECTL_KUBERC": "false"},
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done

    def asked(self, namespace: str, access: Access | None = None) -> list[Asked]:
        """Return what was asked in a namespace, by the controller's account if nobody else is named, oldest first."""
        user = self._users[(access or self.account).token]
        # The account is written as requests end: when one that began later is in it, so are those before.
        marker = f"marker-{secrets.token_hex(4)}"
        self.request("GET", f"/api/v1/namespaces/{namespace}/events/{marker}")
        for _ in range(int(READY_WITHIN / ASK_EVERY)):
            found = [each for each in map(_asked, self._account()) if each is not None]
            if any(each.name == marker for each in found):
                return [each for each in found if each.namespace == namespace and each.user == user]
            self._pause.wait(ASK_EVERY)
        raise NotReady("the API server writes no account of what it is asked")

    def _account(self) -> Sequence[str]:
        return (self.folder / "audit.log").read_text(encoding="utf-8").splitlines()

    # Its life

    def stop(self) -> None:
        """End the API server at once, as a crash does. What it stored stays; so do its port, tokens and certificate."""
        self._end("kube-apiserver")

    def answers(self) -> bool:
        """Tell whether the API server answers."""
        return self._ready()

    def start(self) -> None:
        """Start the API server again where it was."""
        self._start_apiserver()

    def restart(self) -> None:
        """End the API server and start it again: watches break, clients meet refused connections meanwhile."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End everything and remove what it stored."""
        self._end_all()
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(STOP_WITHIN)
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self) -> tuple[int, ...]:
        """Return the ids of its processes."""
        return tuple(process.pid for process in self._running.values())

    # How it is made

    def _write_keys(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        (self.folder / "accounts.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        people = {
            "admin": ("admin", "system:masters"),
            "account": _account(NAMESPACE, SERVICE_ACCOUNT),
            "stranger": _account("default", "stranger"),
        }
        self._tokens = {name: secrets.token_hex(16) for name in people}
        self._users = {self._tokens[name]: user for name, (user, _) in people.items()}
        (self.folder / "tokens.csv").write_text(
            "".join(f'{self._tokens[name]},{user},{user},"{groups}"\n' for name, (user, groups) in people.items()),
            encoding="utf-8",
        )

    def _access(self, name: str) -> Access:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": base64.b64encode(self.certificate).decode(),
                    },
                }
            ],
            "users": [{"name": name, "user": {"token": self._tokens[name]}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        return Access(self._tokens[name], path)

    def _start(self) -> None:
        self._port, self._etcd_port, peer = _free_ports(3)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        client, between = f"http://{HOST}:{self._etcd_port}", f"http://{HOST}:{peer}"
        self._run(
            "etcd",
            self.programs.etcd,
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={between}",
            f"--initial-advertise-peer-urls={between}",
            f"--initial-cluster=default={between}",
            "--log-level=warn",
            # It does not outlive a test: nothing is gained by waiting for the disk.
            "--unsafe-no-fsync",
        )
        self._start_apiserver()

    def _start_apiserver(self) -> None:
        self._run(
            "kube-apiserver",
            self.programs.apiserver,
            f"--secure-port={self._port}",
            f"--bind-address={HOST}",
            # It refuses to tell others a loopback address; this one is nobody's (RFC 5737), and it tells nobody.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            f"--etcd-servers=http://{HOST}:{self._etcd_port}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--anonymous-auth=false",
            # Nobody makes the account's token for a Pod here.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.key'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--audit-policy-file={self.folder / 'audit.json'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--service-cluster-ip-range=10.0.0.0/24",
        )
        self._await_ready()

    def _run(self, name: str, program: Path, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests, which end it in their own time.
                start_new_session=True,
                env={"HOME": str(self.folder), "PATH": os.environ.get("PATH", "")},
            )
        self._running[name] = process
        self._keep(f"+{process.pid}")

    def _await_ready(self) -> None:
        process = self._running["kube-apiserver"]
        for _ in range(int(READY_WITHIN / ASK_EVERY)):
            if self._ready():
                return
            try:
                process.wait(ASK_EVERY)
            except subprocess.TimeoutExpired:
                continue
            raise NotReady(f"kube-apiserver ended with {process.returncode}:\n{self._log()}")
        raise NotReady(f"kube-apiserver was not ready within {READY_WITHIN:.0f} s:\n{self._log()}")

    def _ready(self) -> bool:
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self._tokens['admin']}"}
        )
        try:
            with urllib.request.urlopen(request, context=self._trust(), timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.certificate.decode())

    def _log(self) -> str:
        """Return the end of both logs."""
        ends = []
        for name in ("etcd", "kube-apiserver"):
            path = self.folder / f"{name}.log"
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
            ends.append("\n".join([f"--- {name}", *lines[-12:]]))
        return "\n".join(ends)

    def _end_all(self) -> None:
        for name in ("kube-apiserver", "etcd"):
            self._end(name)

    def _end(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        process.kill()
        process.wait(STOP_WITHIN)
        self._keep(f"-{process.pid}")

    def _keep(self, line: str) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(line + "\n")
        self._keeper.stdin.flush()


def _account(namespace: str, name: str) -> tuple[str, str]:
    """Return the user and the groups of a service account."""
    groups = f"system:serviceaccounts,system:serviceaccounts:{namespace},system:authenticated"
    return f"system:serviceaccount:{namespace}:{name}", groups


def _asked(line: str) -> Asked | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None  # the server was killed while it wrote this one
    about = entry.get("objectRef", {})
    return Asked(
        entry["verb"],
        about.get("resource", ""),
        about.get("subresource", ""),
        about.get("namespace", ""),
        about.get("name", ""),
        entry["user"].get("username", ""),  # an unknown token is nobody
        entry.get("responseStatus", {}).get("code", 0),
        entry["stage"],
    )


def as_stream(objects: Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """Return objects as kubectl reads them one by one; those of a List it would judge itself, and all or none."""
    each = [objects] if isinstance(objects, Mapping) else objects
    return "\n".join(json.dumps(one) for one in each)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _free_ports(number: int) -> Sequence[int]:
    held = [socket.socket() for _ in range(number)]
    try:
        for each in held:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
