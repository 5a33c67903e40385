"""The resource without a server: the one converter, and values of core in and out."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from controller.config import duration_text
from controller.core.conditions import Condition, Phase, Summary, summaries
from controller.core.identity import ContainerIdentity, identity_or_none
from controller.core.model import DAY, SECOND, Declaration, Hold, RunPolicy, Save
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from controller.errors import DeclarationError, InvalidIdentity, ProtocolError
from controller.kubernetes import resource
from controller.kubernetes.schema import structural
from controller.kubernetes.yamltext import yaml_text
from tests.builders import NOW, record, session, task, world

TOM = ContainerIdentity("acme", "blog", "tom")


# The converter


class Colour(StrEnum):
    RED = "Red"


class Inner(BaseModel):
    """A part."""

    size: int = Field(description="How large.")


class Outer(BaseModel):
    """A whole."""

    colour: Colour = Field(Colour.RED, description="Which.")
    inner: Inner | None = Field(None, description="What is in it.")
    all: list[Inner] | None = Field(None, description="More of them.")


def test_references_are_written_out_and_nulls_left_out():
    inner = {
        "type": "object",
        "required": ["size"],
        "properties": {"size": {"description": "How large.", "type": "integer"}},
    }
    assert structural(Outer) == {
        "type": "object",
        "description": "A whole.",
        "properties": {
            "colour": {"description": "Which.", "type": "string", "enum": ["Red"], "default": "Red"},
            "inner": {"description": "What is in it.", **inner},
            "all": {"description": "More of them.", "type": "array", "items": {"description": "A part.", **inner}},
        },
    }


class TwoKinds(BaseModel):
    either: int | str = Field(description="One or the other.")


class AnyKind(BaseModel):
    anything: object = Field(description="Whatever.")


class Silent(BaseModel):
    field: int


class Pattern(BaseModel):
    field: str = Field(description="A text.", pattern="^a$")


class Names(BaseModel):
    field: dict[str, int] = Field(description="Names and numbers.")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (TwoKinds, "TwoKinds.either may be of 2 kinds"),
        (AnyKind, "AnyKind.anything has no type"),
        (Silent, "Silent.field has no description"),
        (Pattern, "Pattern.field uses 'pattern'"),
        (Names, "Names.field uses 'additionalProperties'"),
    ],
)
def test_what_kubernetes_would_drop_or_refuse_is_refused_here(model, said):
    with pytest.raises(ProtocolError) as refused:
        structural(model)
    assert refused.value.what.startswith(said)
    assert refused.value.todo


def test_every_column_shows_a_field_that_there_is():
    version = resource.definition()["spec"]["versions"][0]
    whole = version["schema"]["openAPIV3Schema"]
    for column in version["additionalPrinterColumns"]:
        first, *path = column["jsonPath"].removeprefix(".").split("[")[0].split(".")
        if first == "metadata":
            continue
        schema = whole["properties"][first]
        for name in path:
            schema = schema["properties"][name]
        assert column["type"] in (schema["type"], "date", "string"), column


# YAML


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_is_read_again(value):
    assert yaml.safe_load(yaml_text(value)) == value


def test_a_long_text_with_control_characters_is_not_folded():
    text = "word " * 30 + "\x00 and \x1b more"
    written = yaml_text({"a": text})
    assert ">-" not in written
    assert yaml.safe_load(written) == {"a": text}


def test_the_definition_is_written_as_it_is():
    assert yaml.safe_load(yaml_text(resource.definition())) == resource.definition()


# In and out


holds = st.builds(
    Hold,
    by=st.just("EditContainer n/tom"),
    reason=st.text(min_size=1, max_size=20),
    until=st.integers(1_600_000_000, 2_000_000_000).map(lambda s: s * SECOND),
)
declarations = st.builds(
    Declaration,
    uid=st.just("u1"),
    generation=st.integers(0, 9),
    run_policy=st.sampled_from(RunPolicy),
    idle_timeout=st.none() | st.integers(10, 7 * 86_400).map(lambda s: s * SECOND),
    cpu=st.sampled_from(["", "256", "16384"]),
    memory=st.sampled_from(["", "512", "122880"]),
    hold=st.none() | holds,
)
parts = st.text(min_size=1, max_size=40).filter(lambda p: identity_or_none(p, "p", "u") is not None)
identities = st.builds(identity_or_none, parts, parts, parts).filter(bool)


def body_of(identity: ContainerIdentity, declaration: Declaration) -> dict[str, Any]:
    """Return the object as the server hands it out."""
    spec = resource.spec_of(identity, declaration).model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = {
        "namespace": "n",
        "name": "tom",
        "uid": declaration.uid,
        "generation": declaration.generation,
        "creationTimestamp": "2026-11-25T12:00:00Z",
    }
    return {"apiVersion": resource.API_VERSION, "kind": resource.KIND, "metadata": metadata, "spec": spec}


@given(identities, declarations)
def test_a_declaration_survives_the_way_through_its_object(identity, declaration):
    found = resource.read(body_of(identity, declaration))
    assert (found.identity, found.declaration) == (identity, declaration)


@given(identities)
def test_a_mirror_is_read_as_one_and_asks_for_nothing(identity):
    body = resource.mirror_of(identity, "n")
    found = resource.read(body)
    assert found.is_mirror
    assert (found.identity, found.name) == (identity, identity.kubernetes_name)
    assert found.declaration == Declaration(uid="")
    # Whoever takes the label off makes a declaration of it.
    del body["metadata"]["labels"]
    assert not resource.read(body).is_mirror


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ({"clientId": "e\u0301"}, InvalidIdentity, "not in Unicode NFC"),
        ({"clientId": "%" * 90}, InvalidIdentity, "too long"),
        ({"userId": ""}, DeclarationError, "spec.userId: String should have at least 1 character"),
        ({"idleTimeout": "soon"}, DeclarationError, "spec.idleTimeout: Value error, durations carry a unit"),
        ({"runPolicy": "Never"}, DeclarationError, "spec.runPolicy"),
        ({"hold": {"reason": "x", "until": "tomorrow"}}, DeclarationError, "spec.hold.until 'tomorrow'"),
        ({"cpu": "much"}, DeclarationError, "spec.cpu"),
    ],
)
def test_what_a_server_let_through_is_refused_in_three_lines(spec, error, said):
    body = body_of(TOM, Declaration(uid="u"))
    body["spec"].update(spec)
    with pytest.raises(error) as refused:
        resource.read(body)
    assert said in str(refused.value)
    assert len(refused.value.lines()) == 3


def test_a_newer_spec_is_read_as_far_as_it_is_known():
    body = body_of(TOM, Declaration(uid="u"))
    body["spec"]["ofTomorrow"] = 1
    assert resource.read(body).identity == TOM


def test_of_several_declarations_the_oldest_counts_then_the_first_by_name():
    def declared(name: str, created: str) -> resource.Declared:
        body = body_of(TOM, Declaration(uid=name))
        body["metadata"].update(name=name, creationTimestamp=created)
        return resource.read(body)

    young, b, a = (
        declared("0", "2026-11-25T12:00:01Z"),
        declared("b", "2026-11-25T12:00:00Z"),
        declared("a", "2026-11-25T12:00:00Z"),
    )
    assert sorted([young, b, a], key=lambda each: each.precedence) == [a, b, young]


# Status


def summary_of(**ages: str) -> Summary:
    (found,) = summaries(compute_plan(world(session(**ages), record(**ages), task()), Policy(), NOW))
    return found


def status(found: Summary, save: Save | None = None, before: Any = None, now: int = NOW) -> dict[str, Any]:
    return resource.status_of(found, save, observed_generation=3, before=before, now=now)


def test_status_says_what_the_summary_says():
    save = Save("saved", "main", "9c1e2f0", "9c1e2f0", at=NOW - 1, message="")
    found = status(summary_of(age="3m"), save)
    assert found["phase"] == "Running"
    assert (found["sessionCount"], found["activeSessions"], found["generation"]) == (1, 1, 1)
    assert found["nextAction"]["what"] == "drain"
    assert found["save"] == {
        "state": "saved",
        "branch": "main",
        "commit": "9c1e2f0",
        "remoteCommit": "9c1e2f0",
        "at": resource.stamp(NOW - 1),
    }
    ready = found["conditions"][0]
    assert (ready["type"], ready["status"], ready["observedGeneration"]) == ("Ready", "True", 3)
    assert ready["lastTransitionTime"] == resource.stamp(NOW)


def test_time_that_passes_is_no_news():
    before = status(summary_of(age="3m"))
    after = resource.status_of(summary_of(age="4m"), None, observed_generation=3, before=before, now=NOW + 60 * SECOND)
    patch = resource.merge_patch(before, after)
    assert set(patch) == {"lastActivity", "nextAction"}
    assert resource.moves_only_times(patch)
    assert status(summary_of(age="3m"), None, before, NOW + DAY) == before


def test_a_condition_that_turns_has_a_new_time_and_one_that_speaks_otherwise_has_not():
    was = summary_of(age="3m")
    before = status(was)
    turned = (Condition("Ready", "False", "Starting", "a task is starting"), *was.conditions[1:])
    after = status(replace(was, conditions=turned), None, before, NOW + DAY)
    changed = [a for a, b in zip(after["conditions"], before["conditions"], strict=True) if a != b]
    assert [(c["type"], c["lastTransitionTime"]) for c in changed] == [("Ready", resource.stamp(NOW + DAY))]

    louder = (Condition("Ready", "True", "InUse", "2 active sessions"), *was.conditions[1:])
    after = status(replace(was, conditions=louder), None, before, NOW + DAY)
    assert after["conditions"][0]["message"] == "2 active sessions"
    assert after["conditions"][0]["lastTransitionTime"] == before["conditions"][0]["lastTransitionTime"]
    assert not resource.moves_only_times(resource.merge_patch(before, after))


def test_an_object_that_is_not_followed_says_so_and_nothing_else():
    before = status(summary_of(age="3m"))
    after = resource.status_without_effect(
        "Superseded", "EditContainer n/first declares this container", observed_generation=3, before=before, now=NOW
    )
    assert [(c["type"], c["status"], c["reason"]) for c in after["conditions"]] == [("Ready", "False", "Superseded")]
    patch = resource.merge_patch(before, after)
    assert patch["phase"] == "Superseded"
    assert patch["nextAction"] is None
    louder = resource.status_without_effect(
        "Invalid", "it cannot be read", also=("Stalled",), observed_generation=3, before=before, now=NOW
    )
    assert [(c["type"], c["status"]) for c in louder["conditions"]] == [("Ready", "False"), ("Stalled", "True")]


def way(phase: str, turned: Condition | None = None, **more: Any) -> dict[str, Any]:
    """Return a status on the way of a launch or a stop, one of its conditions turned."""
    was = summary_of(age="3m")
    conditions = tuple(turned if turned and c.type == turned.type else c for c in was.conditions)
    return status(replace(was, conditions=conditions), None) | {"phase": phase, **more}


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        (way("Pending"), way("Starting", taskArn="a", generation=2), True),
        (way("Starting"), way("Starting", containerIp="10.0.3.17"), True),
        (way("Draining"), way("Stopping", save={"state": "saved"}), True),
        (way("Draining"), way("Stopping", Condition("WorkSaved", "True", "saved")), True),
        (way("Draining"), way("Draining", Condition("WorkSaved", "False", "SaveFailed", "the remote is down")), False),
        (way("Draining"), way("Draining", Condition("Duplicate", "True", "Superseded")), False),
        (way("Draining"), way("Draining", Condition("Stalled", "True", "BackingOff")), False),
        (way("Draining"), way("Draining", sessionCount=7), False),
        (way("Draining"), way("Draining", observedGeneration=4), False),
        (way("Draining"), way("Running"), False),
        (way("Starting"), way("Failed"), False),
        (way("Stopping"), way("Stopped"), False),
        (way("Running"), way("Draining"), False),
        ({}, way("Starting"), False),
    ],
)
def test_a_step_on_the_way_can_wait_and_what_calls_for_somebody_cannot(before, after, waits):
    assert resource.is_under_way(before, after) is waits


def test_what_is_said_of_no_generation_names_none():
    found = resource.status_of(summary_of(age="3m"), None, observed_generation=None, before=None, now=NOW)
    assert "observedGeneration" not in found
    assert all("observedGeneration" not in c for c in found["conditions"])


json_values = st.recursive(
    st.booleans() | st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


@given(documents, documents)
def test_a_patch_turns_one_into_the_other_and_is_empty_between_equals(before, after):
    assert applied(before, resource.merge_patch(before, after)) == after
    assert resource.merge_patch(after, after) == {}


def applied(target: Any, patch: Any) -> Any:
    """Return what RFC 7396 makes of a patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = applied(result.get(key), value)
    return result


def test_all_phases_fit_the_field():
    described = resource.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    said = described["properties"]["phase"]["description"]
    assert all(str(phase) in said for phase in Phase)
    types = described["properties"]["conditions"]["items"]["properties"]["type"]["description"]
    assert all(each.type in types for each in summary_of(age="3m").conditions)


def test_the_bounds_are_those_of_the_setting():
    text = resource.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert (
        f"{duration_text(10 * SECOND)} to {duration_text(7 * DAY)}" in text["properties"]["idleTimeout"]["description"]
    )
