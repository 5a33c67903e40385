"""`EditContainer`: the resource that declares a container and shows it, as models, and its definition made of them.

Pure: values in, values out. The operator reads objects by `read`, writes mirrors by `mirror_of` and status by
`status_of`; `definition` is what `editctl crd` prints and what manifests/kubernetes/base/crd.yaml is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from controller.config import Refused, duration_text, parse_duration
from controller.core.conditions import OUTDATED, Condition, Phase, Summary
from controller.core.identity import MAX_TAG_VALUE, ContainerIdentity
from controller.core.model import DAY, SECOND, Declaration, Hold, Millis, RunPolicy, Save
from controller.errors import DeclarationError
from controller.kubernetes.schema import structural

GROUP = "webordinary.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "EditContainer"
PLURAL = "editcontainers"
SINGULAR = "editcontainer"
SHORT_NAME = "ec"
CATEGORIES = ("all", "webordinary")

ORIGIN_LABEL = f"{GROUP}/origin"
ORIGIN_SESSIONS = "sessions"
"""Marks a mirror: an object that shows what sessions asked for, and declares nothing."""

SHORTEST_IDLE: Millis = 10 * SECOND
LONGEST_IDLE: Millis = 7 * DAY

LONGEST_PART = MAX_TAG_VALUE - len("-x-x")

Json = dict[str, Any]


# Rules: what a schema cannot say, in CEL. The API server answers with the message, so it says what to do.


def _rules(*rules: tuple[str, str]) -> Json:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _fixed(name: str) -> tuple[str, str]:
    return (
        "self == oldSelf",
        f"{name} cannot be changed, it says whose container this is; delete this object and make another",
    )


def _without_controls(name: str) -> tuple[str, str]:
    return (
        r"!self.matches(r'[\x00-\x1f\x7f-\x{9f}]')",
        f"{name} has a control character, which can be neither a tag nor an environment value; remove it",
    )


def _identifier(name: str) -> Any:
    return Field(
        description=(
            f"{_MEANS[name]} Together the three say whose container this is. 1 to {LONGEST_PART} characters, none of "
            "them a control character, in Unicode NFC. It cannot be changed."
        ),
        min_length=1,
        max_length=LONGEST_PART,
        json_schema_extra=_rules(_fixed(name), _without_controls(name)),
    )


_MEANS = {
    "clientId": "The client, as session rows name it.",
    "projectId": "The client's project.",
    "userId": "The user who edits it.",
}

# ECS takes a tag's letters, digits, spaces and `_ . : / + - @` as they are; each other byte takes three characters.
_AS_A_TAG = (
    "(self.clientId + '-' + self.projectId + '-' + self.userId).split('')"
    r".map(c, c.matches(r'^[\p{L}\p{N} _.:/+@-]$') ? 1 : 3 * size(bytes(c))).sum()"
)
_FITS = (
    f"{_AS_A_TAG} <= {MAX_TAG_VALUE}",
    (
        "clientId, projectId and userId are too long together: as a tag of ECS, joined by '-', they may take "
        f"{MAX_TAG_VALUE} characters (what is no letter or digit may take three each); use shorter ones"
    ),
)

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_GRAMMAR = "^" + "".join(f"([0-9]{{1,9}}{unit})?" for unit in _UNITS) + "$"
_IS_DURATION = f"self != '' && self.matches('{_GRAMMAR}')"
_SECONDS = " + ".join(
    f"(self.find('[0-9]+{unit}') == '' ? 0 : int(self.find('[0-9]+{unit}').replace('{unit}', '')) * {size})"
    for unit, size in _UNITS.items()
)
_DURATION = (
    (_IS_DURATION, "a duration carries units, the largest first: 90s, 20m, 2h, 1h30m"),
    (
        f"!({_IS_DURATION}) || ({_SECONDS} >= {SHORTEST_IDLE // SECOND} && {_SECONDS} <= {LONGEST_IDLE // SECOND})",
        f"it may be {duration_text(SHORTEST_IDLE)} to {duration_text(LONGEST_IDLE)}",
    ),
)

# Not `format: date-time`: the server would refuse with the name of a type, and not with an example.
_TIME = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_TIME_RULE = (
    f"self.matches('{_TIME}') && timestamp(self) > timestamp('2000-01-01T00:00:00Z')",
    "a time of this century with date, seconds and zone: 2026-11-25T15:00:00Z or 2026-11-25T16:00:00+01:00",
)


# The models


class _Part(BaseModel):
    """What all parts share. Unknown fields are another version's: the server has pruned what it does not know."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


def _duration(value: str) -> str:
    try:
        parse_duration(value)
    except Refused as refused:
        raise ValueError(refused.why) from refused
    return value


class HoldSpec(_Part):
    """An operator's word that nothing is to happen."""

    reason: str = Field(description="Why; everybody is shown it.", min_length=1, max_length=256)
    until: str = Field(
        description=(
            "When it ends by itself, as date, time and zone: 2026-11-25T15:00:00Z. One that has passed holds nothing."
        ),
        max_length=40,
        json_schema_extra=_rules(_TIME_RULE),
    )


class EditContainerSpec(_Part):
    """What is asked for: one container, of one client, project and user."""

    client_id: str = _identifier("clientId")
    project_id: str = _identifier("projectId")
    user_id: str = _identifier("userId")
    run_policy: RunPolicy = Field(
        RunPolicy.AUTO,
        description=(
            "Auto: it runs while sessions use it. Always: it runs, sessions or not. "
            "Stopped: its work is saved, it is stopped, and sessions do not start it."
        ),
    )
    idle_timeout: Annotated[str, AfterValidator(_duration)] | None = Field(
        None,
        description=(
            "How long it is quiet before its work is saved and it is stopped: 90s, 20m, 2h, 1h30m; "
            f"{duration_text(SHORTEST_IDLE)} to {duration_text(LONGEST_IDLE)}. Without it, the controller's own "
            "(EDITCTL_IDLE_TIMEOUT, 20m)."
        ),
        max_length=40,
        json_schema_extra=_rules(*_DURATION),
    )
    cpu: int | None = Field(
        None,
        description=(
            "CPU units of its next launch, 1024 to one vCPU. On Fargate 256, 512, 1024, 2048, 4096, 8192 or 16384, "
            "each with its own sizes of memory. Without it, the task definition's."
        ),
        ge=128,
        le=196_608,
    )
    memory: int | None = Field(
        None, description="MiB of memory of its next launch. Without it, the task definition's.", ge=128, le=1_048_576
    )
    hold: HoldSpec | None = Field(
        None, description="Until it ends, the container is neither started, drained nor stopped."
    )


def _time_field(description: str) -> Any:
    return Field(None, description=description, json_schema_extra={"format": "date-time"})


class NextAction(_Part):
    """What happens next by itself."""

    at: str | None = _time_field("When.")
    what: str | None = Field(None, description="What: start, drain, stop, retry, …")
    why: str | None = Field(None, description="The reason word, as in plan, log and metrics.")


class SaveStatus(_Part):
    """What the last save of the workspace came to."""

    state: str | None = Field(None, description="saved, or what was in the way.")
    branch: str | None = Field(None, description="The branch that the work was on.")
    commit: str | None = Field(None, description="The commit that was made of it.")
    remote_commit: str | None = Field(None, description="What the remote answered that it has.")
    rescue_ref: str | None = Field(None, description="Where it was pushed to when its own place refused it.")
    at: str | None = _time_field("When it was saved.")
    message: str | None = Field(None, description="A sentence on it.")


class ConditionStatus(_Part):
    """One aspect, in Kubernetes' own form."""

    type: str = Field(
        description="Ready, Idle, Draining, WorkSaved, Duplicate, Orphaned, Stalled or Outdated.", max_length=64
    )
    status: str = Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(description="The reason word, as in plan, log and metrics.", max_length=128)
    message: str | None = Field(None, description="A sentence on it.")
    observed_generation: int | None = Field(None, description="The generation of the object that this was said of.")
    last_transition_time: str | None = _time_field("When its status was last another one.")


class EditContainerStatus(_Part):
    """What is: written by the controller, read by people. Nothing is decided by it."""

    # No enum: an older definition would refuse the status of a newer controller.
    phase: str | None = Field(
        None,
        description=(
            "Pending, Starting, Running, Draining, Stopping, Stopped, Failed or Held; "
            "Superseded or Invalid when the object is not followed."
        ),
    )
    container_id: str | None = Field(None, description="The id that tables and tags name it by.")
    task_arn: str | None = Field(None, description="Its ECS task.")
    container_ip: str | None = Field(None, description="The address at which it can be reached in the VPC.")
    generation: int | None = Field(None, description="Which launch of this container it is.")
    session_count: int | None = Field(None, description="Its open sessions.")
    active_sessions: int | None = Field(None, description="Those of them that were active lately.")
    last_activity: str | None = _time_field("When it was last used.")
    next_action: NextAction | None = Field(None, description="What happens next by itself.")
    save: SaveStatus | None = Field(None, description="What the last save of the workspace came to.")
    observed_generation: int | None = Field(None, description="The generation of the object that this was said of.")
    conditions: list[ConditionStatus] | None = Field(
        None,
        description="Aspects of it, each with why.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


# The definition


def _column(name: str, kind: str, path: str, description: str, *, wide: bool = False) -> Json:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


COLUMNS: Sequence[Json] = (
    _column("Phase", "string", ".status.phase", "One word for how it is."),
    _column("Active", "integer", ".status.activeSessions", "Sessions that were active lately."),
    _column("Open", "integer", ".status.sessionCount", "Open sessions."),
    _column("Quiet", "date", ".status.lastActivity", "Time since it was last used."),
    _column("IP", "string", ".status.containerIp", "Where it can be reached in the VPC."),
    _column("Next", "string", ".status.nextAction.what", "What happens next by itself."),
    _column("Age", "date", ".metadata.creationTimestamp", "Time since this object was made."),
    _column("Container", "string", ".status.containerId", "The id that tables and tags name it by.", wide=True),
    _column("Policy", "string", ".spec.runPolicy", "What its declaration asks for.", wide=True),
    _column("Because", "string", ".status.conditions[?(@.type=='Ready')].reason", "Why it is so.", wide=True),
    _column("Saved", "date", ".status.save.at", "Time since its work was saved.", wide=True),
    _column("At", "string", ".status.nextAction.at", "When Next happens.", wide=True),
)


def definition() -> Json:
    """Return the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": list(CATEGORIES),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _whole()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(COLUMNS),
                }
            ],
        },
    }


def _whole() -> Json:
    spec = structural(EditContainerSpec)
    spec["x-kubernetes-validations"] = _rules(_FITS)["x-kubernetes-validations"]
    return {
        "type": "object",
        "description": "An edit container: what is asked for by spec, and how it is by status.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(EditContainerStatus),
        },
    }


# From objects to the values of core, and back


@dataclass(frozen=True, slots=True)
class Declared:
    """An object as the controller reads it."""

    namespace: str
    name: str
    identity: ContainerIdentity
    declaration: Declaration
    created_at: str
    is_mirror: bool
    """Whether it only shows what sessions asked for; such a one declares nothing."""

    @property
    def precedence(self) -> tuple[str, str]:
        """Of several declarations for one identity the one wins whose precedence is least: the oldest, then by name."""
        return self.created_at, self.name


def is_mirror(body: Mapping[str, Any]) -> bool:
    """Tell whether an object shows what sessions asked for, and declares nothing."""
    labels = body.get("metadata", {}).get("labels") or {}
    return bool(labels.get(ORIGIN_LABEL) == ORIGIN_SESSIONS)


def read(body: Mapping[str, Any]) -> Declared:
    """Return what an object asks for. Raises InvalidIdentity or DeclarationError, for what no schema can judge."""
    metadata = body.get("metadata", {})
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    try:
        spec = EditContainerSpec.model_validate(body.get("spec", {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DeclarationError(
            f"EditContainer {namespace}/{name}: spec.{'.'.join(str(each) for each in first['loc'])}",
            first["msg"],
            "correct it with kubectl edit",
        ) from None
    return Declared(
        namespace=namespace,
        name=name,
        identity=ContainerIdentity(spec.client_id, spec.project_id, spec.user_id),
        declaration=Declaration(
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            run_policy=spec.run_policy,
            idle_timeout=None if spec.idle_timeout is None else parse_duration(spec.idle_timeout),
            cpu="" if spec.cpu is None else str(spec.cpu),
            memory="" if spec.memory is None else str(spec.memory),
            hold=_hold(spec.hold, namespace, name),
        ),
        created_at=metadata.get("creationTimestamp") or "",
        is_mirror=is_mirror(body),
    )


def _hold(hold: HoldSpec | None, namespace: str, name: str) -> Hold | None:
    if hold is None:
        return None
    try:
        until = datetime.fromisoformat(hold.until)
    except ValueError as error:
        raise DeclarationError(
            f"EditContainer {namespace}/{name}: spec.hold.until '{hold.until}' is no time",
            str(error),
            "write date, time and zone: 2026-11-25T15:00:00Z",
        ) from error
    return Hold(by=f"EditContainer {namespace}/{name}", reason=hold.reason, until=int(until.timestamp() * 1000))


def spec_of(identity: ContainerIdentity, declaration: Declaration | None = None) -> EditContainerSpec:
    """Return the spec that `read` makes these values of; None is what nobody declared."""
    wish = declaration or Declaration(uid="")
    return EditContainerSpec(
        client_id=identity.client_id,
        project_id=identity.project_id,
        user_id=identity.user_id,
        run_policy=wish.run_policy,
        idle_timeout=None if wish.idle_timeout is None else duration_text(wish.idle_timeout),
        cpu=int(wish.cpu) if wish.cpu else None,
        memory=int(wish.memory) if wish.memory else None,
        hold=HoldSpec(reason=wish.hold.reason, until=stamp(wish.hold.until)) if wish.hold else None,
    )


def mirror_of(identity: ContainerIdentity, namespace: str) -> Json:
    """Return the object that shows a container which only sessions ask for."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "namespace": namespace,
            "name": identity.kubernetes_name,
            "labels": {ORIGIN_LABEL: ORIGIN_SESSIONS},
        },
        "spec": _plain(spec_of(identity)),
    }


# Status


def status_of(
    summary: Summary,
    save: Save | None,
    *,
    observed_generation: int | None,
    before: Mapping[str, Any] | None,
    now: Millis,
) -> Json:
    """Return the status of an object, as JSON. before is the one that it has: a condition keeps the time it changed.

    observed_generation None: what is said is not said of any of its generations.
    """
    return _plain(
        EditContainerStatus(
            phase=str(summary.phase),
            container_id=summary.container_id,
            task_arn=summary.task_arn,
            container_ip=summary.container_ip,
            generation=summary.generation,
            session_count=summary.sessions,
            active_sessions=summary.active_sessions,
            last_activity=_stamp(summary.last_activity),
            next_action=_next(summary),
            save=_save(save),
            observed_generation=observed_generation,
            conditions=_conditions(summary.conditions, observed_generation, before, now),
        )
    )


def status_without_effect(
    reason: str,
    message: str,
    *,
    also: Sequence[str] = (),
    observed_generation: int,
    before: Mapping[str, Any] | None,
    now: Millis,
) -> Json:
    """Return the status of an object that is not followed: another has the identity, or it cannot be read.

    also: conditions that are True for the same reason.
    """
    said = (Condition("Ready", "False", reason, message), *(Condition(kind, "True", reason, message) for kind in also))
    return _plain(
        EditContainerStatus(
            phase=reason,
            observed_generation=observed_generation,
            conditions=_conditions(said, observed_generation, before, now),
        )
    )


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """Return the JSON merge patch that turns one into the other; empty when there is nothing to change."""
    patch: Json = {key: None for key in before if key not in after and before[key] is not None}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif value != old:
            patch[key] = value
    return patch


def moves_only_times(patch: Mapping[str, Any]) -> bool:
    """Tell whether a patch of a status moves only lastActivity or when something happens next: that can wait."""
    next_action = patch.get("nextAction", {})
    return set(patch) <= {"lastActivity", "nextAction"} and (next_action is not None and set(next_action) <= {"at"})


_UNDER_WAY = frozenset({Phase.PENDING, Phase.STARTING, Phase.DRAINING, Phase.STOPPING})
_ALONG_THE_WAY = frozenset(
    {"phase", "taskArn", "containerIp", "generation", "lastActivity", "nextAction", "save", "conditions"}
)
_OF_THE_WAY = frozenset({"Ready", "Idle", "Draining", OUTDATED})


def is_under_way(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether a status only goes on from one step of a launch or a stop to the next: that can wait, too.

    What calls for a person cannot: a save that failed, a second task, somebody who comes.
    """
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    return (
        {before.get("phase"), after.get("phase")} <= _UNDER_WAY
        and changed <= _ALONG_THE_WAY
        and not _alarming(before.get("conditions") or (), after.get("conditions") or ())
    )


def _alarming(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> bool:
    known = {each["type"]: each for each in before}
    for each in after:
        was = known.get(each["type"], {})
        better = each["type"] == "WorkSaved" and each["status"] == "True"
        if each["type"] in _OF_THE_WAY or better:
            continue
        if any(each.get(name) != was.get(name) for name in ("status", "reason", "observedGeneration")):
            return True
    return False


def stamp(at: Millis) -> str:
    """Return a time as Kubernetes writes it: UTC, whole seconds."""
    return datetime.fromtimestamp(at // 1000, UTC).isoformat().replace("+00:00", "Z")


def _stamp(at: Millis | None) -> str | None:
    return None if at is None else stamp(at)


def _next(summary: Summary) -> NextAction | None:
    if not summary.next_what:
        return None
    return NextAction(at=_stamp(summary.next_at), what=summary.next_what, why=summary.next_reason)


def _save(save: Save | None) -> SaveStatus | None:
    if save is None:
        return None
    return SaveStatus(
        state=save.state or None,
        branch=save.branch or None,
        commit=save.commit or None,
        remote_commit=save.remote_commit or None,
        rescue_ref=save.rescue_ref or None,
        at=_stamp(save.at),
        message=save.message or None,
    )


def _conditions(
    conditions: Sequence[Condition], observed_generation: int | None, before: Mapping[str, Any] | None, now: Millis
) -> list[ConditionStatus]:
    known = {each.get("type"): each for each in (before or {}).get("conditions") or ()}
    return [
        ConditionStatus(
            type=each.type,
            status=each.status,
            reason=each.reason,
            message=_said(each, known.get(each.type)),
            observed_generation=observed_generation,
            last_transition_time=_changed(each, known.get(each.type), now),
        )
        for each in conditions
    ]


_DURATION_SAID = re.compile(r"\d+(?:\.\d+)? (?:s|min|h|d)\b")


def _said(condition: Condition, before: Mapping[str, Any] | None) -> str | None:
    """Return the sentence, or the one from before where only a duration differs: time that passes is no news."""
    if before and (before.get("status"), before.get("reason")) == (condition.status, condition.reason):
        old = str(before.get("message") or "")
        if _DURATION_SAID.sub("#", old) == _DURATION_SAID.sub("#", condition.message):
            return old or None
    return condition.message or None


def _changed(condition: Condition, before: Mapping[str, Any] | None, now: Millis) -> str:
    if before and before.get("status") == condition.status and before.get("lastTransitionTime"):
        return str(before["lastTransitionTime"])
    return stamp(now)


def _plain(part: _Part) -> Json:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)
