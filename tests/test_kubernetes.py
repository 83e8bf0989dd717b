"""Manifests for Kubernetes: valid by its own schema, and the processes of the compose file, which a test runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from alflow import CampaignConfig
from alflow.campaign.alive import STILL_S
from alflow.campaign.kubernetes import DRAIN_FILE, HURRY_S, LEAVE_S, manifests
from alflow.campaign.kubernetes_console import show_manifests
from alflow.campaign.pools import worker_environment
from alflow.campaign.runner import BEAT_S
from alflow.campaign.site import PATIENCE_S
from alflow.errors import ConfigError

from .campaign.toys import settings
from .test_compose import SERVICES

VERSIONS: Final = ("1.25.2", "1.37.0")
WORKERS: Final = ("label", "explore", "train")
SECURITY: Final = {"ca": "/run/secrets/cert.pem", "cert": "/run/secrets/cert.pem", "key": "/run/secrets/key.pem"}


def campaign(folder: Path, **changes: Any) -> CampaignConfig:
    cluster = {"address": "tls://scheduler:8786", "security": SECURITY}
    usual = {"executor": "dask", "cluster": cluster, "database": "postgresql://alflow@database/alflow"}
    return CampaignConfig.model_validate(settings(folder, **(usual | changes)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """As a user would get them: written, and read again."""
    folder = tmp_path_factory.mktemp("manifests")
    show_manifests(campaign(folder, limits={"memory_limit_mb": 4000, "threads": 2}), "example.org/alflow:1", folder)
    files = sorted(folder.glob("*.yaml"))
    return {file.stem[3:]: list(yaml.safe_load_all(file.read_text(encoding="utf-8"))) for file in files}


def pods(made: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for objects in made.values():
        for found in objects:
            if "template" in found.get("spec", {}):
                yield found["metadata"]["name"], found["spec"]["template"]


def container_of(made: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Any]:
    (container,) = dict(pods(made))[name]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_by_the_schema_of_kubernetes(
    made: dict[str, list[dict[str, Any]]], version: str
) -> None:
    kinds = []
    for objects in made.values():
        for found in objects:
            kubernetes_validate.validate(found, version, strict=True)
            kinds.append(found["kind"])
    assert sorted(set(kinds)) == [
        *("Deployment", "Job", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "Service", "StatefulSet")
    ]
    wrong = yaml.safe_load(yaml.safe_dump(made["label"][0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("name", ["database", "scheduler", *WORKERS, "orchestrator"])
def test_a_container_runs_the_command_of_its_service_in_the_compose_file(
    made: dict[str, list[dict[str, Any]]], name: str
) -> None:
    """Only what Kubernetes adds is different: a hook tells workers to drain, and the password is in no file."""
    container, service = container_of(made, name), SERVICES[name]
    words = [*container.get("command", []), *container["args"]]
    assert words == [
        *service.get("entrypoint", ["alflow"] if name == "orchestrator" else []),
        *service["command"],
    ]
    which = ["toy"] if name == "orchestrator" else []
    assert container["livenessProbe"]["exec"]["command"] == [*service["healthcheck"]["test"][1:], *which]
    environment = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
    added = {"ALFLOW_DRAIN_FILE": DRAIN_FILE, "ALFLOW_DRAIN_GRACE_S": str(LEAVE_S - HURRY_S)} if name in WORKERS else {}
    added |= worker_environment(2) if name in WORKERS else {}
    added |= {"PGPASSWORD": None} if name == "orchestrator" else {}
    wanted = {key: value for key, value in service.get("environment", {}).items() if key != "PGPASSFILE"} | added
    assert environment == wanted


def test_no_container_has_more_rights_than_it_needs_and_workers_know_no_password(
    made: dict[str, list[dict[str, Any]]],
) -> None:
    given: dict[str, set[str]] = {}
    for name, pod in pods(made):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"].endswith("Mi")
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            claimed = {"database"} if name == "database" else set()
            assert mounted <= {volume["name"] for volume in spec["volumes"]} | claimed
        (secrets,) = [volume for volume in spec["volumes"] if volume["name"] == "secrets"]
        given[name] = {source["secret"]["name"] for source in secrets["projected"]["sources"]}
        entries = [entry for container in spec["containers"] for entry in container.get("env", [])]
        given[name] |= {e["valueFrom"]["secretKeyRef"]["name"] for e in entries if "valueFrom" in e}
        assert not [e for e in entries if "PASSWORD" in e["name"] and not e["name"].endswith("_FILE") and "value" in e]
    everyone = {"scheduler", *WORKERS}
    assert {name for name, secrets in given.items() if secrets == {"certificates"}} == everyone
    assert given["database"] == given["orchestrator"] == {"certificates", "database"}


def test_names_by_which_objects_find_each_other_exist(made: dict[str, list[dict[str, Any]]]) -> None:
    objects = [found for listed in made.values() for found in listed]
    assert {found["metadata"].get("namespace") for found in objects if found["kind"] != "Namespace"} == {"alflow-toy"}
    ports = {name: container_of(made, name).get("ports", []) for name, _ in pods(made)}
    services = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "Service"}
    assert set(services) == {"database", "scheduler"}
    for name, service in services.items():
        pod = dict(pods(made))[name]
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["ports"]} <= {port["name"] for port in ports[name]}
    for found in objects:
        if found["kind"] in ("Deployment", "StatefulSet"):
            chosen = found["spec"]["selector"]["matchLabels"]
            assert chosen.items() <= found["spec"]["template"]["metadata"]["labels"].items()
    (stateful,) = [found for found in objects if found["kind"] == "StatefulSet"]
    assert stateful["spec"]["serviceName"] in services
    policies = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "NetworkPolicy"}
    (caller,) = policies["database"]["ingress"][0]["from"]
    assert caller["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "orchestrator"


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_has_time_to_drain_and_memory_for_its_label(made: dict[str, list[dict[str, Any]]], kind: str) -> None:
    pod, container = dict(pods(made))[kind], container_of(made, kind)
    assert pod["spec"]["terminationGracePeriodSeconds"] > LEAVE_S > LEAVE_S - HURRY_S > 0
    (hook,) = [container["lifecycle"]["preStop"]["exec"]["command"]]
    assert hook[:2] == ["sh", "-c"]
    assert subprocess.run(["sh", "-n", "-c", hook[2]], check=False).returncode == 0
    assert f"touch {DRAIN_FILE};" in hook[2]
    asked, most = (int(container["resources"][part]["memory"][:-2]) for part in ("requests", "limits"))
    if kind == "label":
        assert asked * 2**20 > 4000e6 + 2**29, "one label and the worker itself"
        assert most * 2**20 >= 2 * 4000e6 + 2**30, "a second attempt has twice as much"
        assert container["resources"]["requests"]["cpu"] == "2"
    else:
        own = next(word for word in container["args"] if word.startswith("--memory-limit="))
        assert most > 1024 * int(own.removeprefix("--memory-limit=").removesuffix("GiB"))


def test_the_last_of_three_attempts_fits_into_its_container(tmp_path: Path) -> None:
    limits = {"memory_limit_mb": 3000, "max_attempts": 3}
    (deployment,) = manifests(campaign(tmp_path, limits=limits), "alflow")["label"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    asked, most = (int(container["resources"][part]["memory"][:-2]) for part in ("requests", "limits"))
    assert 0 <= asked * 2**20 - (3000e6 + 2**30) < 2**20
    assert 0 <= most * 2**20 - (9000e6 + 2**30) < 2**20


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cluster": "local"}, "needs the scheduler that it is to start"),
        ({"database": "toy.db"}, "is a file, which a container cannot keep"),
        ({"cluster": {"address": "tls://10.0.0.1:8786", "security": SECURITY}}, "cannot be the name of a service"),
        (
            {"cluster": {"address": "tls://scheduler:8786", "security": SECURITY | {"key": "key.pem"}}},
            "in containers ca, cert and key are",
        ),
        ({"cluster": {"address": "tls://scheduler:99999", "security": SECURITY}}, "scheduler:99999 cannot be the name"),
        ({"database": "postgresql://alflow@data_base/alflow"}, "'data_base' cannot be the name of its service"),
        ({"database": "postgresql:///alflow"}, "'' cannot be the name of its service"),
        ({"database": "postgresql://alflow@scheduler/alflow"}, "'scheduler' cannot be the name of its service"),
        ({"database": "postgresql://alflow@database:6543/alflow"}, "listens at port 5432"),
        ({"database": "postgresql://alflow@database"}, "names no database"),
    ],
)
def test_a_campaign_that_containers_could_not_run_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        manifests(campaign(tmp_path, **changes), "alflow")


@pytest.mark.parametrize("image", ["", "two words", "alflow:1\n---\nkind: Pod", "-x", "$(id)"])
def test_what_cannot_be_an_image_is_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of an image"):
        manifests(campaign(tmp_path), image)


def test_a_name_in_the_address_of_the_database_is_what_it_stands_for(tmp_path: Path) -> None:
    made = manifests(campaign(tmp_path, database="postgresql://al%40flow@database/water%20run"), "alflow")
    (container,) = made["database"][0]["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert (told["POSTGRES_USER"], told["POSTGRES_DB"]) == ("al@flow", "water run")


def test_a_password_in_the_address_of_the_database_is_in_no_manifest(tmp_path: Path) -> None:
    address = "postgresql://al%40flow:s3cret@database/alflow?sslmode=verify-ca&password=s3cret"
    made = manifests(campaign(tmp_path, database=address), "alflow")
    assert "s3cret" not in yaml.safe_dump(made)
    probe = container_of(made, "orchestrator")["livenessProbe"]["exec"]["command"]
    assert probe[-2:] == ["postgresql://al%40flow@database/alflow?sslmode=verify-ca", "toy"]


def test_a_campaign_that_stands_still_is_begun_again_only_after_it_would_have_paused_by_itself(
    made: dict[str, list[dict[str, Any]]],
) -> None:
    """While the database is away nothing can be told of the orchestrator, which waits for it and then ends."""
    probe, check = container_of(made, "orchestrator")["livenessProbe"], SERVICES["orchestrator"]["healthcheck"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > PATIENCE_S
    assert float(check["interval"].removesuffix("s")) * (check["retries"] - 1) > PATIENCE_S
    assert probe["initialDelaySeconds"] >= STILL_S > max(PATIENCE_S, 10 * BEAT_S)


def test_a_database_of_somebody_else_is_not_started_and_files_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = campaign(tmp_path, database="postgresql://alflow@db.example.org/alflow")
    assert "database" not in manifests(config, "alflow")
    show_manifests(config, "alflow", None)
    assert len(list(yaml.safe_load_all(capsys.readouterr().out))) == 9
    show_manifests(config, "alflow", tmp_path / "made")
    with pytest.raises(ConfigError, match="is there already"):
        show_manifests(config, "alflow", tmp_path / "made")
