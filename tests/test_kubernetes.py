"""`deploy/kubernetes/`: settings that the product accepts, hardened pods, and references that lead to something.

`make lint-kubernetes` checks the manifests against the schemas of the Kubernetes API.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kataven import settings
from kataven.authservice.server import GRACE_SECONDS
from kataven.identity import signing
from kataven.settings import PREFIX, Settings
from tests.test_alerts import API as API_JOB
from tests.test_alerts import CANARY as CANARY_JOB
from tools.lint_kubernetes import MANIFESTS, documents

ROOT = MANIFESTS.parents[1]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
OBJECTS = [document for _, document in documents()]
GUNICORN = {"BIND", "WORKERS", "THREADS"}
SECRETS = {
    "KATAVEN_DATABASE_URL": "postgresql+psycopg2://kataven:x@db.example.com/kataven_system",
    "KATAVEN_REDIS_URL": "rediss://redis.example.com:6379/0",
    "KATAVEN_METRICS_TOKEN": "0123456789abcdef",
    "KATAVEN_WIDGET_SIGNING_KEYS": signing.new_key("2026a"),
    "KATAVEN_HUB_CLIENT_SECRET": "secret of the client",
    "KATAVEN_PEPPERS": "2026a:" + base64.urlsafe_b64encode(bytes(range(32))).decode(),
}


def kind(name: str) -> list[dict[str, Any]]:
    return [one for one in OBJECTS if one["kind"] == name]


WORKLOADS = [*kind("Deployment"), *kind("Job")]
DEPLOYMENTS = {one["metadata"]["name"]: one for one in kind("Deployment")}


def name_of(workload: dict[str, Any]) -> str:
    name: str = workload["metadata"]["name"]
    return name


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]
    return found


def container(workload: dict[str, Any]) -> dict[str, Any]:
    [found] = pod(workload)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environ(workload: dict[str, Any]) -> dict[str, str]:
    """The environment of the container, with valid values for what the Secrets contain."""
    assert container(workload)["envFrom"] == [{"configMapRef": {"name": "kataven"}}]
    [config] = kind("ConfigMap")
    found = dict(config["data"])
    for entry in container(workload)["env"]:
        found[entry["name"]] = entry["value"] if "value" in entry else SECRETS[entry["name"]]
    return found


def secret_keys(workload: dict[str, Any]) -> set[tuple[str, str]]:
    references = [entry["valueFrom"]["secretKeyRef"] for entry in container(workload)["env"] if "valueFrom" in entry]
    return {(reference["name"], reference["key"]) for reference in references}


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_process_accepts_its_environment(workload: dict[str, Any], tmp_path: Path) -> None:
    given = environ(workload)
    for name, value in given.items():
        assert name in GUNICORN or name.removeprefix(PREFIX).lower() in Settings.model_fields, name
        assert isinstance(value, str), f"{name} is not a string"
    mounts = {mount["mountPath"] for mount in container(workload)["volumeMounts"]}
    for name in [name for name in given if "_TLS_" in name]:
        folder, _, file = given[name].rpartition("/")
        assert folder in mounts
        (tmp_path / file).touch()
        given[name] = str(tmp_path / file)
    configured = settings.load(given)
    assert not configured.development
    assert str(configured.slots_dir).startswith("/tmp/"), "the folder must be in a volume that is writable"  # noqa: S108


def test_only_the_auth_service_receives_peppers() -> None:
    with_peppers = [name_of(workload) for workload in WORKLOADS if ("kataven-auth", "peppers") in secret_keys(workload)]
    assert with_peppers == ["kataven-auth"]
    assert not kind("Secret"), "a manifest with a secret would be committed"


def test_documented_secrets_are_those_that_pods_refer_to() -> None:
    referred = set().union(*map(secret_keys, WORKLOADS))
    created = re.findall(r"kubectl -n kataven create secret generic (\S+)((?: \\\n\s+--from-\S+)+)", PAGE)
    documented = {(name, key) for name, options in created for key in re.findall(r"--from-\w+=([\w-]+)", options)}
    assert documented == referred
    volumes = [volume for workload in WORKLOADS for volume in pod(workload)["spec"]["volumes"]]
    for name in {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_pods_are_hardened_and_bounded(workload: dict[str, Any]) -> None:
    spec, one = pod(workload)["spec"], container(workload)
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "deploy" / "Containerfile").read_text(), re.MULTILINE)
    assert user is not None
    context = spec["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, int(user[1]), int(user[2]))
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert {"cpu", "memory"} == set(one["resources"]["requests"])
    assert {"memory"} == set(one["resources"]["limits"]), "a CPU limit delays heartbeats"
    assert "/tmp" in {mount["mountPath"] for mount in one["volumeMounts"]}  # noqa: S108


@pytest.mark.parametrize("name", ["kataven-api", "kataven-hub"])
def test_web_pods_have_probes_and_time_to_drain(name: str) -> None:
    one, spec = container(DEPLOYMENTS[name]), pod(DEPLOYMENTS[name])["spec"]
    paths = {probe: one[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    graceful = re.search(
        r"^graceful_timeout = (\d+)$", (ROOT / "kataven/serve/gunicorn_conf.py").read_text(), re.MULTILINE
    )
    assert graceful is not None
    assert spec["terminationGracePeriodSeconds"] >= seconds_before_stop(one) + int(graceful[1]) + 5
    assert DEPLOYMENTS[name]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert DEPLOYMENTS[name]["spec"]["replicas"] >= 2


def test_auth_service_has_time_to_drain() -> None:
    one, spec = container(DEPLOYMENTS["kataven-auth"]), pod(DEPLOYMENTS["kataven-auth"])["spec"]
    assert spec["terminationGracePeriodSeconds"] >= seconds_before_stop(one) + GRACE_SECONDS + 5


def seconds_before_stop(one: dict[str, Any]) -> int:
    program, seconds = one["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    return int(seconds)


def test_services_budgets_and_scaling_refer_to_pods_that_exist() -> None:
    labels = {name_of(workload): pod(workload)["metadata"]["labels"] for workload in WORKLOADS}
    for deployment in DEPLOYMENTS.values():
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels[name_of(deployment)].items()
    for service in kind("Service"):
        [selected] = [name for name, has in labels.items() if service["spec"]["selector"].items() <= has.items()]
        ports = {port["name"] for port in container(DEPLOYMENTS[selected])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in kind("PodDisruptionBudget"):
        [selected] = [
            name for name, has in labels.items() if budget["spec"]["selector"]["matchLabels"].items() <= has.items()
        ]
        assert DEPLOYMENTS[selected]["spec"]["replicas"] > budget["spec"]["minAvailable"], "no pod could be evicted"
    [scaler] = kind("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert scaler["spec"]["minReplicas"] == DEPLOYMENTS["kataven-api"]["spec"]["replicas"]


def test_network_policies_deny_by_default_and_allow_ports_that_exist() -> None:
    policies = {name_of(policy): policy["spec"] for policy in kind("NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {port["containerPort"] for workload in DEPLOYMENTS.values() for port in container(workload)["ports"]}
    names = {pod(workload)["metadata"]["labels"]["app.kubernetes.io/name"] for workload in WORKLOADS}
    for policy in policies.values():
        for rule in policy.get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= ports
        written = yaml.safe_dump(policy)
        assert set(re.findall(r"app\.kubernetes\.io/name: (\S+)", written)) <= names
        assert set(re.findall(r"- (kataven-\w+)", written)) <= names


def test_prometheus_scrapes_the_jobs_that_the_alert_rules_name() -> None:
    services = {name_of(service): service for service in kind("Service")}
    scraped = set()
    for monitor in kind("ServiceMonitor"):
        selector, [endpoint] = monitor["spec"]["selector"], monitor["spec"]["endpoints"]
        names = [*selector.get("matchLabels", {}).values()]
        names += [value for term in selector.get("matchExpressions", []) for value in term["values"]]
        for name in names:
            assert endpoint["port"] in {port["name"] for port in services[name]["spec"]["ports"]}
            scraped.add(name)
        if "authorization" in endpoint:
            reference = endpoint["authorization"]["credentials"]
            assert (reference["name"], reference["key"]) in secret_keys(DEPLOYMENTS["kataven-api"])
    assert scraped == {API_JOB, CANARY_JOB, "kataven-hub"}


def test_every_file_is_part_of_the_kustomization() -> None:
    [kustomization] = kind("Kustomization")
    files = {file.name for file in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    images = {container(workload)["image"].partition(":")[0] for workload in WORKLOADS}
    assert images == {image["name"] for image in kustomization["images"]}
