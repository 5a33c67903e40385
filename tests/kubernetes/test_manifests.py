"""What is shipped, on a real API server: everything applies, and the account may do what it must and nothing else."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controller import __version__
from controller.config import CONFIG_VARIABLE, FILE_NAME, PREFIX, load, settings
from controller.core.identity import ContainerIdentity
from controller.kubernetes import resource
from tests.kubernetes.cluster import NAMESPACE, SERVICE_ACCOUNT, Access, ControlPlane
from tests.kubernetes.objects import MANIFESTS, ROOT, Json, built, documents, of_kind, path

OVERLAYS = (".", "base", "overlays/eks", "overlays/eks-irsa")
KINDS = {
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "Deployment",
    "NetworkPolicy",
}
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))
POD_MONITOR = "PodMonitor"


@pytest.fixture(scope="module")
def shipped(control_plane: ControlPlane) -> Iterator[list[Json]]:
    """Return the objects of `kubectl apply -k manifests/kubernetes`, applied."""
    control_plane.kubectl("apply", "-k", str(MANIFESTS))
    control_plane.kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", f"crd/{resource.PLURAL}.{resource.GROUP}"
    )
    yield built(control_plane, MANIFESTS)
    control_plane.request("DELETE", path(NAMESPACE))


# Everything applies


@pytest.mark.parametrize("folder", OVERLAYS)
@pytest.mark.parametrize("mode", ["apply", "server-side"])
def test_everything_applies(control_plane, shipped, folder, mode):
    objects = built(control_plane, MANIFESTS / folder)
    kinds = {each["kind"] for each in objects}
    assert kinds - {"ConfigMap"} == KINDS
    assert ("ConfigMap" in kinds) == (folder != "base")
    server_side = ["--server-side", "--force-conflicts", "--field-manager=judge"] if mode == "server-side" else []
    # By the server, with all of its validation; nothing is kept of it.
    done = control_plane.kubectl("apply", *server_side, "--dry-run=server", "-k", str(MANIFESTS / folder))
    assert len(done.stdout.splitlines()) == len(objects)
    assert "Warning" not in done.stderr


def test_the_second_time_nothing_changes(control_plane, shipped):
    again = control_plane.kubectl("apply", "-k", str(MANIFESTS)).stdout.splitlines()
    assert len(again) == len(shipped)
    assert [line for line in again if not line.endswith(" unchanged")] == []


def test_the_server_knows_every_kind_but_the_pod_monitor(control_plane, shipped, tmp_path):
    overlay = with_component(tmp_path, "pod-monitor")
    done = control_plane.kubectl("apply", "--dry-run=server", "-k", str(overlay), check=False)
    # All the others are judged all the same.
    assert done.returncode == 1
    assert f'no matches for kind "{POD_MONITOR}" in version "monitoring.coreos.com/v1"' in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    (monitor,) = of_kind(built(control_plane, overlay), POD_MONITOR)
    (deployment,) = of_kind(shipped, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {each["name"] for each in container(deployment)["ports"]}
    assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= ports


def with_component(folder: Path, name: str) -> Path:
    """Return an overlay of somebody else's: the one for EKS, with one more component."""
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{os.path.relpath(MANIFESTS, folder)}]\n"
        f"components: [{os.path.relpath(MANIFESTS / 'components' / name, folder)}]\n",
        encoding="utf-8",
    )
    return folder


def test_the_definition_is_the_one_that_editctl_prints():
    printed = subprocess.run(
        [sys.executable, "-m", "controller.cli", "crd"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    kept = MANIFESTS / "base" / "crd.yaml"
    assert kept.read_text(encoding="utf-8") == printed, f"run: editctl crd > {kept.relative_to(ROOT)}"


# Samples


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda each: each.stem)
def test_a_sample_applies_and_can_be_read(control_plane, shipped, sample):
    for mode in ((), ("--server-side", "--force-conflicts", "--field-manager=judge")):
        done = control_plane.kubectl("apply", *mode, "-f", str(sample))
        assert "Warning" not in done.stderr
    (written,) = documents(sample.read_text(encoding="utf-8"))
    stored = control_plane.request("GET", path(NAMESPACE, written["metadata"]["name"])).body
    assert stored["spec"] == {"runPolicy": "Auto", **written["spec"]}
    found = resource.read(stored)
    assert not found.is_mirror
    assert written["metadata"]["namespace"] == NAMESPACE


def test_the_samples_show_every_policy_and_field():
    specs = [documents(each.read_text(encoding="utf-8"))[0]["spec"] for each in SAMPLES]
    shown = set(itertools.chain.from_iterable(specs))
    known = resource.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert shown == set(known["properties"])
    assert {spec.get("runPolicy", "Auto") for spec in specs} == set(known["properties"]["runPolicy"]["enum"])
    # No two of them declare the same container.
    assert len({(s["clientId"], s["projectId"], s["userId"]) for s in specs}) == len(specs)


# What the account may do

OURS = resource.GROUP
MAY: frozenset[tuple[str, str, str]] = frozenset(
    [(verb, OURS, resource.PLURAL) for verb in ("get", "list", "watch", "create", "patch", "delete")]
    + [("patch", OURS, f"{resource.PLURAL}/status"), ("create", "", "events")]
)


def may(control_plane: ControlPlane, access: Access) -> frozenset[tuple[str, str, str]]:
    """Return what somebody may do in the controller's namespace, as verb, group and resource."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NAMESPACE},
    }
    answer = control_plane.request(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review, access=access
    )
    assert not answer.body["status"].get("incomplete")
    rules = answer.body["status"]["resourceRules"]
    assert all("resourceNames" not in rule for rule in rules)
    return frozenset(
        each for rule in rules for each in itertools.product(rule["verbs"], rule["apiGroups"], rule["resources"])
    )


def test_the_account_may_do_exactly_this(control_plane, shipped):
    # Every account of a cluster may ask who it is, what it may, and for certificates that are public.
    assert may(control_plane, control_plane.account) - may(control_plane, control_plane.stranger) == MAY


def test_kubectl_lists_the_same_for_a_person(control_plane, shipped):
    listed = control_plane.kubectl("auth", "can-i", "--list", "-n", NAMESPACE, access=control_plane.account).stdout
    named = {line.split()[0] for line in listed.splitlines()[1:] if line and not line.startswith(" ")}
    assert {f"{resource.PLURAL}.{OURS}", f"{resource.PLURAL}.{OURS}/status", "events"} <= named
    assert not {"pods", "secrets", "*.*"} & named


CORE = f"/api/v1/namespaces/{NAMESPACE}"
ELSEWHERE = "somewhere-else"
FORBIDDEN: Mapping[str, tuple[str, str]] = {
    "read pods": ("GET", f"{CORE}/pods"),
    "make a pod": ("POST", f"{CORE}/pods"),
    "run in a pod": ("POST", f"{CORE}/pods/editctl/exec?command=id"),
    "read logs": ("GET", f"{CORE}/pods/editctl/log"),
    "read secrets": ("GET", f"{CORE}/secrets"),
    "read its own secret": ("GET", f"{CORE}/secrets/editctl-channel"),
    "read settings": ("GET", f"{CORE}/configmaps"),
    "read events": ("GET", f"{CORE}/events"),
    "make a token": ("POST", f"{CORE}/serviceaccounts/editctl/token"),
    "change its deployment": ("PATCH", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/editctl"),
    "hold a lease": ("POST", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"),
    "see namespaces": ("GET", "/api/v1/namespaces"),
    "see definitions": ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    "change the definition": (
        "PATCH",
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{resource.PLURAL}.{OURS}",
    ),
    "widen its role": ("PATCH", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/editctl"),
    "bind itself": ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    "see all containers": ("GET", f"/apis/{resource.API_VERSION}/{resource.PLURAL}"),
    "see others' containers": ("GET", path(ELSEWHERE)),
    "make others' containers": ("POST", path(ELSEWHERE)),
    "write others' status": ("PATCH", path(ELSEWHERE, "tom") + "/status"),
    "write others' events": ("POST", f"/api/v1/namespaces/{ELSEWHERE}/events"),
    "replace a container": ("PUT", path(NAMESPACE, "tom")),
    "remove all containers": ("DELETE", path(NAMESPACE)),
    "read a status alone": ("GET", path(NAMESPACE, "tom") + "/status"),
    "replace a status": ("PUT", path(NAMESPACE, "tom") + "/status"),
    "see nodes": ("GET", "/api/v1/nodes"),
    "be somebody else": ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
}


@pytest.mark.parametrize("wish", FORBIDDEN)
def test_everything_else_is_refused(control_plane, shipped, wish):
    method, where = FORBIDDEN[wish]
    answer = control_plane.request(method, where, {} if method != "GET" else None, access=control_plane.account)
    assert answer.status == 403, answer.message
    assert f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}" in answer.message


def test_what_it_must_do_it_can(control_plane, shipped):
    """One life of a mirror, with an event, in the account's own name."""
    me = control_plane.account
    identity = ContainerIdentity("acme", "my-blog", "tom@acme.com")
    one = path(NAMESPACE, identity.kubernetes_name)

    def ask(method: str, where: str, body: Any = None, **how: Any) -> Any:
        answer = control_plane.request(method, where, body, access=me, **how)
        assert answer.status < 300, answer.message
        return answer.body

    made = ask("POST", path(NAMESPACE), resource.mirror_of(identity, NAMESPACE))
    assert ask("GET", path(NAMESPACE))["items"]
    assert ask("GET", one)["metadata"]["uid"] == made["metadata"]["uid"]
    merge = "application/merge-patch+json"
    assert ask("PATCH", one, {"metadata": {"labels": {"a": "b"}}}, content_type=merge)["metadata"]["labels"]["a"] == "b"
    assert ask("PATCH", f"{one}/status", {"status": {"phase": "Running"}}, content_type=merge)["status"]
    event = {
        "metadata": {"generateName": "kopf-event-", "namespace": NAMESPACE},
        "involvedObject": {
            "apiVersion": resource.API_VERSION,
            "kind": resource.KIND,
            "name": made["metadata"]["name"],
            "namespace": NAMESPACE,
            "uid": made["metadata"]["uid"],
        },
        "reason": "SessionActive",
        "message": "1 active session",
        "type": "Normal",
    }
    ask("POST", f"{CORE}/events", event)
    described = control_plane.kubectl("describe", "ec", "-n", NAMESPACE, made["metadata"]["name"]).stdout
    assert "SessionActive" in described.partition("Events:")[2]
    ask("DELETE", one)
    assert control_plane.request("GET", one).status == 404


# The Pod


def container(deployment: Json) -> Json:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_the_pod_is_taken_where_only_restricted_ones_are(control_plane, shipped):
    (namespace,) = of_kind(shipped, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (deployment,) = of_kind(shipped, "Deployment")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "judged", **deployment["spec"]["template"]["metadata"]},
        "spec": deployment["spec"]["template"]["spec"],
    }
    taken = control_plane.request("POST", f"{CORE}/pods?dryRun=All", pod)
    assert taken.status == 201, taken.message

    # The namespace really judges: a Pod that is a little less careful is refused.
    container(deployment)["securityContext"]["allowPrivilegeEscalation"] = True
    refused = control_plane.request("POST", f"{CORE}/pods?dryRun=All", pod)
    assert refused.status == 403
    assert "restricted" in refused.message


def test_the_pod_writes_nowhere_and_has_the_token_that_it_needs(shipped):
    (deployment,) = of_kind(shipped, "Deployment")
    pod, only = deployment["spec"]["template"]["spec"], container(deployment)
    assert only["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in only["volumeMounts"])
    assert pod["automountServiceAccountToken"] is True
    (account,) = of_kind(shipped, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == account["metadata"]["name"] == SERVICE_ACCOUNT
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1


def test_probes_and_policy_speak_of_the_same_port(shipped):
    (deployment,) = of_kind(shipped, "Deployment")
    only = container(deployment)
    (port,) = only["ports"]
    environment = {each["name"]: each["value"] for each in only["env"]}
    assert environment["EDITCTL_METRICS_ADDRESS"].endswith(f":{port['containerPort']}")
    assert only["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
    assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    ingress = [rule for each in of_kind(shipped, "NetworkPolicy") for rule in each["spec"].get("ingress", [])]
    assert [each["port"] for rule in ingress for each in rule["ports"]] == [port["containerPort"]]


def test_the_way_out_is_narrow(shipped):
    ways = {
        (each["port"], *sorted(block["ipBlock"]["cidr"] for block in rule.get("to", [])))
        for policy in of_kind(shipped, "NetworkPolicy")
        for rule in policy["spec"]["egress"]
        for each in rule["ports"]
    }
    assert ways == {
        (53,),
        (443,),
        (8642, "10.0.0.0/16"),
        (80, "169.254.170.23/32", "fd00:ec2::23/128"),
    }
    for policy in of_kind(shipped, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "editctl"}


def test_irsa_names_a_role_and_needs_no_agent_on_the_node(control_plane):
    objects = built(control_plane, MANIFESTS / "overlays" / "eks-irsa")
    (account,) = of_kind(objects, "ServiceAccount")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:iam::")
    ports = {
        p["port"] for n in of_kind(objects, "NetworkPolicy") for rule in n["spec"]["egress"] for p in rule["ports"]
    }
    assert 80 not in ports


def test_the_guide_can_be_followed(control_plane, shipped, tmp_path):
    """Section 5b of docs/deploy.md, to the letter; but for the roll-out, for which a cluster needs nodes."""
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = guide.partition("\n## 5b.")[2].partition("\n## ")[0]
    commands = [line.partition("#")[0].strip() for line in section.splitlines() if line.startswith("kubectl ")]
    assert len(commands) == 6
    secret = tmp_path / "channel-secret"
    secret.write_text("x" * 32, encoding="utf-8")
    control_plane.request("DELETE", f"{CORE}/secrets/editctl-channel")
    for command in commands:
        told = shlex.split(command.replace("$EDITCTL_CHANNEL_SECRET_FILE", str(secret)))[1:]
        if "rollout" in told:
            # One Pod, which nobody runs here: it is there to be waited for.
            told = ["-n", NAMESPACE, "get", told[-1]]
        told = [str(ROOT / each) if each.startswith("manifests/") else each for each in told]
        assert "Warning" not in control_plane.kubectl(*told).stderr
    (deployment,) = of_kind(shipped, "Deployment")
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (wanted,) = [each["secret"]["secretName"] for each in volumes if "secret" in each]
    stored = control_plane.request("GET", f"{CORE}/secrets/{wanted}").body["data"]
    environment = {each["name"]: each["value"] for each in container(deployment)["env"]}
    assert set(stored) == {Path(environment["EDITCTL_CHANNEL_SECRET_FILE"]).name}
    # What is shipped is what the test that follows finds.
    control_plane.kubectl("apply", "-k", str(MANIFESTS))


def test_the_stack_gives_its_role_to_the_account_that_is_shipped():
    template = json.loads((ROOT / "manifests/aws/templates/new/eks.json").read_text(encoding="utf-8"))
    defaults = {name: each.get("Default") for name, each in template["Parameters"].items()}
    assert (defaults["Namespace"], defaults["ServiceAccount"]) == (NAMESPACE, SERVICE_ACCOUNT)


def test_the_settings_are_ones_that_editctl_knows(shipped, monkeypatch, tmp_path):
    (deployment,) = of_kind(shipped, "Deployment")
    environment = {each["name"]: each["value"] for each in container(deployment)["env"]}
    known = {each.variable for each in settings()} | {CONFIG_VARIABLE}
    assert {name for name in environment if name.startswith(PREFIX)} <= known
    (config,) = of_kind(shipped, "ConfigMap")
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["settings"]["configMap"]["name"] == config["metadata"]["name"]
    # As in the Pod, but for the folder.
    file = tmp_path / FILE_NAME
    file.write_text(config["data"][FILE_NAME], encoding="utf-8")
    secret = tmp_path / "secret"
    secret.write_text("x" * 32, encoding="utf-8")
    assert environment[CONFIG_VARIABLE] == f"/etc/editctl/{FILE_NAME}"
    for name, value in {**environment, CONFIG_VARIABLE: str(file), "EDITCTL_CHANNEL_SECRET_FILE": str(secret)}.items():
        monkeypatch.setenv(name, value)
    loaded = load()
    assert loaded.warnings == ()
    assert loaded.config.channel_keys()
    assert loaded.config.metrics_address == "0.0.0.0:9464"
    agents = {p["port"] for n in of_kind(shipped, "NetworkPolicy") for r in n["spec"]["egress"] for p in r["ports"]}
    assert loaded.config.agent_port in agents


def test_the_secret_can_be_read_by_the_process_and_by_nobody_else(shipped):
    (deployment,) = of_kind(shipped, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["defaultMode"] & stat.S_IRGRP
    assert not secret["defaultMode"] & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IWUSR)
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    # In no file of the repository.
    assert of_kind(shipped, "Secret") == []


def test_the_image_is_of_this_version(shipped):
    (deployment,) = of_kind(shipped, "Deployment")
    assert container(deployment)["image"].endswith(f"/webordinary/editctl:{__version__}")
