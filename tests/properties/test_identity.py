"""Identity: every name that is made of a triple gives the triple back, and no two triples ever share a container."""

import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.identity import (
    MAX_KUBERNETES_NAME,
    ContainerIdentity,
    Ownership,
    classify,
    client_token,
    environment_for,
    escape_tag,
    identity_from_environment,
    identity_from_tags,
    identity_or_none,
    split_container_id,
    started_by,
    tags_for,
    unescape_tag,
)
from controller.core.model import Session, World
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from controller.errors import InvalidIdentity

NOW = 1_700_000_000_000

parts = st.text(min_size=1, max_size=40).filter(lambda p: identity_or_none(p, "p", "u") is not None)
short_parts = st.text(alphabet="ab-=@ü#:/%", min_size=1, max_size=6)
identities = st.builds(identity_or_none, parts | short_parts, parts | short_parts, parts | short_parts).filter(bool)


@given(st.text(max_size=60))
def test_tag_values_round_trip_and_stay_in_the_alphabet_of_ecs(value):
    try:
        escaped = escape_tag(value)
    except UnicodeEncodeError:  # a lone surrogate is not text; an identity refuses it
        with pytest.raises(InvalidIdentity):
            ContainerIdentity(value, "p", "u")
        return
    assert unescape_tag(escaped) == value
    assert not escaped.lower().startswith("aws:")
    assert all(c in " _.:/=+-@" or c.isalpha() or c.isnumeric() or c.isalnum() for c in escaped if c.isascii())


NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
twins = st.text(alphabet="ab-A.ü", min_size=1, max_size=4)


@given(identities)
def test_kubernetes_names_are_labels_and_always_the_same(identity):
    name = identity.kubernetes_name
    assert NAME.fullmatch(name)
    assert len(name) <= MAX_KUBERNETES_NAME
    assert ContainerIdentity(identity.client_id, identity.project_id, identity.user_id).kubernetes_name == name


@given(st.lists(st.tuples(twins, twins, twins), min_size=2, max_size=40, unique=True))
def test_no_two_identities_have_one_kubernetes_name(triples):
    """Their ids meet often, as plain text, in small letters, or without what a name cannot have."""
    assert len({ContainerIdentity(*triple).kubernetes_name for triple in triples}) == len(triples)


@pytest.mark.parametrize(
    ("triple", "name"),
    [
        (("acme", "blog", "tom"), "acme-blog-tom"),
        (("a" * 20, "b" * 20, "c" * 21), "a" * 20 + "-" + "b" * 20 + "-" + "c" * 21),
        (("acme", "my-blog", "tom"), "acme-my-blog-tom--3ys2hwxnyxjbvejgk3kr"),
        (("ameliastamps", "website", "john@email.com"), "ameliastamps-website-john-email-com--padswo3geopd7ngwrpft"),
        (("プ", "ロ", "ジ"), "container--"),
    ],
)
def test_kubernetes_names_can_be_read(triple, name):
    found = ContainerIdentity(*triple).kubernetes_name
    assert found == name or (name.endswith("--") and found.startswith(name))


@given(st.text(alphabet="=0123456789ABCDEFabcxyz", max_size=12))
def test_what_escape_did_not_make_is_refused(text):
    plain = unescape_tag(text)
    assert plain is None or escape_tag(plain) == text


@given(identities)
def test_tags_and_environment_give_the_triple_back(identity):
    assert identity_from_tags(tags_for(identity, "default")) == identity
    environment = environment_for(identity, 7, "default", 20)
    assert identity_from_environment(environment) == identity


@given(identities)
def test_a_task_is_recognised_before_and_after_its_tags_are_gone(identity):
    environment = environment_for(identity, 1, "blue", 20)
    common: dict[str, Any] = {
        "environment": environment,
        "family": "webordinary-edit",
        "family_prefix": "webordinary-edit",
    }
    live = classify(
        tags=tags_for(identity, "blue"), task_started_by=started_by("blue"), live=True, controller_id="blue", **common
    )
    stopping = classify(tags={}, task_started_by=started_by("blue"), live=False, controller_id="blue", **common)
    others = classify(
        tags=tags_for(identity, "blue"), task_started_by=started_by("blue"), live=True, controller_id="green", **common
    )
    assert live == stopping == (Ownership.OURS, identity)
    assert others == (Ownership.FOREIGN, identity)


@given(identities)
def test_an_id_is_split_only_when_there_is_one_way(identity):
    split = split_container_id(identity.container_id)
    ways = identity.container_id.count("-") == 2
    assert (split == identity) if ways and split else (split is None)


def test_original_tags_name_the_user_through_the_container_id():
    tags = {"ContainerId": "acme-shop-api-bob@acme.com", "ClientId": "acme", "ProjectId": "shop-api"}
    assert identity_from_tags(tags) == ContainerIdentity("acme", "shop-api", "bob@acme.com")
    assert identity_from_tags({**tags, "ClientId": "acne"}) is None


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("", "empty"),
        ("a\nb", "control character"),
        ("a\x00b", "control character"),
        ("e\u0301", "NFC"),
        ("x" * 300, "too long"),
        ("#" * 100, "too long"),
        ("\ud800", "control character"),
    ],
)
def test_a_part_that_cannot_name_a_container_is_refused_with_the_reason(part, why):
    with pytest.raises(InvalidIdentity) as caught:
        ContainerIdentity("acme", part, "tom")
    assert why in " ".join(caught.value.lines())
    assert caught.value.todo


def _adversarial(rng: random.Random, n: int) -> list[ContainerIdentity]:
    """Triples over an alphabet of dashes, of which many share one text."""
    out: list[ContainerIdentity] = []
    while len(out) < n:
        triple = identity_or_none(*("".join(rng.choices("ab-", k=rng.randint(1, 4))) for _ in range(3)))
        if triple:
            out.append(triple)
    return out


def test_100_000_random_and_adversarial_triples_never_share_a_container():
    rng = random.Random(20261125)
    plain = [
        ContainerIdentity(*("".join(rng.choices("abcdefgh123@.-", k=rng.randint(1, 12))) for _ in range(3)))
        for _ in range(95_000)
    ]
    triples = sorted(set(plain + _adversarial(rng, 5_000)))
    sharing: dict[str, list[ContainerIdentity]] = {}
    for triple in triples:
        sharing.setdefault(triple.container_id, []).append(triple)
    collisions = {text: owners for text, owners in sharing.items() if len(owners) > 1}
    assert len(collisions) > 100, "the adversarial part must really collide"

    tokens = {client_token("c", triple, 1, NOW) for triple in triples}
    assert len(tokens) == len(triples)

    sessions = tuple(
        Session(f"s{n}", triple.container_id, triple, last_activity=NOW) for n, triple in enumerate(triples)
    )
    plan = compute_plan(World(sessions=sessions), Policy(), NOW)
    started = {a.container_id: a.identity for a in plan.actions if a.kind == "start"}
    assert set(started) == {text for text, owners in sharing.items() if len(owners) == 1}
    assert all(sharing[text] == [identity] for text, identity in started.items())
    held = {a.container_id for a in plan.actions if a.reason == "IdentityConflict"}
    assert held == set(collisions)
