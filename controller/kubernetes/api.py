"""The requests that the operator makes of the API server itself; watching is kopf's."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf

from controller.core.model import MINUTE, Millis
from controller.kubernetes.resource import API_VERSION, PLURAL, Json

TIMEOUT = 10.0
"""Seconds for one request."""
PAGE = 500
LOGIN_EVERY: Millis = MINUTE
"""A service account's token is renewed in its file: it is read anew this often."""


class ApiError(Exception):
    """The API server refused (status is HTTP's), or did not answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Access:
    server: str
    headers: Mapping[str, str]
    context: ssl.SSLContext | None


class Api:
    """EditContainers and events of one namespace. Every method raises ApiError."""

    def __init__(
        self, login: Callable[[], kopf.ConnectionInfo | None], namespace: str, clock: Callable[[], Millis]
    ) -> None:
        self.namespace = namespace
        self._login = login
        self._clock = clock
        self._access: tuple[Millis, _Access] | None = None

    def list(self) -> tuple[list[Json], int]:
        """Return all objects, and the resourceVersion of which the list is."""
        items: list[Json] = []
        more = ""
        while True:
            query = urllib.parse.urlencode({"limit": PAGE, **({"continue": more} if more else {})})
            page = self._ask("GET", f"{self._path()}?{query}")
            items += page.get("items", ())
            more = page["metadata"].get("continue", "")
            if not more:
                return items, int(page["metadata"].get("resourceVersion") or 0)

    def get(self, name: str) -> Json:
        """Return an object as it is now."""
        return self._ask("GET", self._path(name))

    def create(self, body: Json) -> Json:
        """Make an object and return it as it is now."""
        return self._ask("POST", self._path(), body)

    def patch(self, name: str, patch: Json, *, version: int, status: bool) -> Json:
        """Merge a patch into an object, or into its status, IF that is still of this version; return it as it is now.

        Else it is refused with 409: a patch says what is to change of what was read, and of nothing else.
        """
        body = {**patch, "metadata": {"resourceVersion": str(version)}}
        return self._ask("PATCH", self._path(name) + ("/status" if status else ""), body)

    def delete(self, name: str, uid: str) -> None:
        """Delete an object, IF it still is this one."""
        self._ask("DELETE", self._path(name), {"preconditions": {"uid": uid}})

    def post_event(self, body: Json) -> None:
        """Post an event of core/v1."""
        self._ask("POST", f"/api/v1/namespaces/{self.namespace}/events", body)

    def _path(self, name: str = "") -> str:
        whole = f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURAL}"
        return f"{whole}/{urllib.parse.quote(name)}" if name else whole

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        access = self._signed_in()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            access.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={**access.headers, "Content-Type": kind, "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=access.context, timeout=TIMEOUT) as response:
                answer: Json = json.loads(response.read())
                return answer
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 401:
                    self._access = None
                raise ApiError(error.code, _message(error.read()) or str(error.reason)) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            # Who is stopped in the middle of an answer raises the last of these.
            self._access = None
            raise ApiError(0, str(getattr(error, "reason", error))) from error

    def _signed_in(self) -> _Access:
        now = self._clock()
        if self._access is None or now >= self._access[0] + LOGIN_EVERY:
            try:
                info = self._login()
                if info is None:
                    raise ApiError(0, "there is neither a service account nor a kubeconfig")
                self._access = now, _Access(info.server.rstrip("/"), _headers(info), _context(info))
            except ApiError:
                raise
            except Exception as error:
                # A kubeconfig can be wrong in any way, and kopf's readers say so in as many.
                raise ApiError(0, f"no credentials can be read: {type(error).__name__}: {error}") from error
        return self._access[1]


def _headers(info: kopf.ConnectionInfo) -> Mapping[str, str]:
    if info.token:
        return {"Authorization": f"{info.scheme or 'Bearer'} {info.token}"}
    if info.username:
        secret = base64.b64encode(f"{info.username}:{info.password or ''}".encode()).decode()
        return {"Authorization": f"Basic {secret}"}
    return {}


def _context(info: kopf.ConnectionInfo) -> ssl.SSLContext | None:
    if not info.server.startswith("https:"):
        return None
    context = ssl.create_default_context(
        cafile=os.fsdecode(info.ca_path) if info.ca_path else None,
        cadata=_pem(info.ca_data).decode() if info.ca_data else None,
    )
    if info.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if info.certificate_path:
        context.load_cert_chain(os.fsdecode(info.certificate_path), _fs(info.private_key_path))
    elif info.certificate_data:
        # ssl takes a client's certificate from files only.
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "certificate", Path(folder) / "key"
            certificate.write_bytes(_pem(info.certificate_data))
            key.touch(mode=0o600)
            key.write_bytes(_pem(info.private_key_data or b""))
            context.load_cert_chain(certificate, key)
    return context


def _fs(path: Any) -> str | None:
    return os.fsdecode(path) if path else None


def _pem(data: str | bytes) -> bytes:
    """Return what kubeconfigs carry in base64."""
    raw = data.encode() if isinstance(data, str) else data
    return raw if raw.lstrip().startswith(b"-----") else base64.b64decode(raw)


def _message(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return str(answer.get("message", "")) if isinstance(answer, dict) else ""
