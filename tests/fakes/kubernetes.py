"""An API server in memory, as far as the operator asks it: versions, generations, status apart from spec, refusals.

`tests/kubernetes/test_fake_server.py` holds it against the real one, request by request.
"""

from __future__ import annotations

import copy
import json
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any

import kopf

from controller.core.model import SECOND, Millis
from controller.kubernetes.api import Api, ApiError
from controller.kubernetes.resource import stamp

Json = dict[str, Any]
_DEFAULTS = {"runPolicy": "Auto"}


class FakeServer:
    """Objects of one namespace, and what a watch would tell of them: type and object, in the order of their versions.

    away: nobody answers. It has written so many objects, by verb.
    """

    def __init__(self, clock: Callable[[], Millis]) -> None:
        self._clock = clock
        self.objects: dict[str, Json] = {}
        self.events: list[Json] = []
        self.told: list[tuple[str, Json]] = []
        self.away = False
        self.asked: Counter[str] = Counter()
        self._version = 100
        self._uids = 0
        self.page = 0
        """Objects in a page of a list, 0 for as many as are asked for."""
        self._pages: dict[str, tuple[list[Json], int]] = {}

    def api(self, namespace: str = "n") -> Api:
        """Return a client of it."""
        return _Client(self, namespace, self._clock)

    @property
    def version(self) -> int:
        return self._version

    def ask(self, method: str, path: str, body: Json | None) -> Json:
        """Answer one request. Raises ApiError."""
        if self.away:
            raise ApiError(0, "[Errno 111] Connection refused")
        body = json.loads(json.dumps(body)) if body is not None else {}
        where, _, query = path.partition("?")
        if where.endswith("/events"):
            self.asked["event"] += 1
            self.events.append(body)
            return body
        name, _, part = where.partition("/editcontainers")[2].strip("/").partition("/")
        if not name:
            return self._create(body) if method == "POST" else self._list(dict(urllib.parse.parse_qsl(query)))
        name = urllib.parse.unquote(name)
        if name not in self.objects:
            raise ApiError(404, f'editcontainers.webordinary.com "{name}" not found')
        if method == "GET":
            return copy.deepcopy(self.objects[name])
        if method == "DELETE":
            return self._delete(name, body)
        return self._patch(name, part, body)

    def _list(self, query: Json) -> Json:
        self.asked["list"] += 1
        key = query.get("continue", "")
        left, version = self._pages.pop(key) if key else (copy.deepcopy(list(self.objects.values())), self._version)
        most = min(int(query["limit"]), self.page or int(query["limit"]))
        page, rest = left[:most], left[most:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"page-{len(self._pages)}-{len(rest)}"
            self._pages[metadata["continue"]] = rest, version
        return {"items": page, "metadata": metadata}

    def _create(self, body: Json) -> Json:
        name = body["metadata"]["name"]
        if name in self.objects:
            raise ApiError(409, f'editcontainers.webordinary.com "{name}" already exists')
        self.asked["create"] += 1
        self._uids += 1
        body["spec"] = {**_DEFAULTS, **body["spec"]}
        body.pop("status", None)
        body["metadata"] |= {
            "uid": f"uid-{self._uids}",
            "generation": 1,
            "creationTimestamp": stamp(self._clock() // SECOND * SECOND),
        }
        return self._store("ADDED", body)

    def _patch(self, name: str, part: str, patch: Json) -> Json:
        before = self.objects[name]
        wanted = patch.get("metadata", {}).pop("resourceVersion", None)
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise ApiError(409, f'Operation cannot be fulfilled on editcontainers "{name}": it has been modified')
        after = copy.deepcopy(before)
        if part == "status":
            after["status"] = _merged(before.get("status", {}), patch.get("status", {}))
        else:
            after["spec"] = {**_DEFAULTS, **_merged(before["spec"], patch.get("spec", {}))}
            after["metadata"] = _merged(before["metadata"], patch.get("metadata", {}))
            if after["spec"] != before["spec"]:
                after["metadata"]["generation"] += 1
        self.asked["patch"] += 1
        return copy.deepcopy(before) if after == before else self._store("MODIFIED", after)

    def _delete(self, name: str, options: Json) -> Json:
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, self.objects[name]["metadata"]["uid"]):
            raise ApiError(409, f'Operation cannot be fulfilled on editcontainers "{name}": Precondition failed: UID')
        self.asked["delete"] += 1
        gone = self.objects.pop(name)
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        self.told.append(("DELETED", copy.deepcopy(gone)))
        return {"kind": "Status", "status": "Success"}

    def _store(self, kind: str, body: Json) -> Json:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[body["metadata"]["name"]] = body
        self.told.append((kind, copy.deepcopy(body)))
        return copy.deepcopy(body)


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), value)
    return out


class _Client(Api):
    """The real client, whose requests go to a server in memory."""

    def __init__(self, server: FakeServer, namespace: str, clock: Callable[[], Millis]) -> None:
        super().__init__(lambda: kopf.ConnectionInfo(server="https://in.memory"), namespace, clock)
        self._server = server

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        return self._server.ask(method, path, body)
