"""What the compose file would start, without containers: the same command lines and health checks, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from alflow import CampaignConfig
from alflow.campaign.certificates import make_certificates
from alflow.errors import ConfigError

from .campaign.toys import check_promises, rows, settings

ROOT: Final = Path(__file__).parents[1]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
OURS: Final = ("scheduler", "label", "explore", "train", "orchestrator")


def test_compose_has_a_service_for_every_pool_and_none_runs_as_root_or_unwatched() -> None:
    assert set(SERVICES) == {"database", *OURS}
    for name, service in SERVICES.items():
        assert service["user"] == "1000:1000", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert all(wanted["condition"] == "service_healthy" for wanted in service.get("depends_on", {}).values())
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    files = [
        ROOT / "docker" / SERVICES[name]["build"]["context"] / SERVICES[name]["build"]["dockerfile"] for name in OURS
    ]
    assert all(file.is_file() for file in files)
    taken = [word for name in OURS for word in SERVICES[name]["command"] if word.startswith("--resources=")]
    assert taken == [f"--resources={kind}=1" for kind in ("label", "explore", "train")]
    volumes = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ())]
    assert {v for v in volumes if not v.startswith(".")} == set(COMPOSE["volumes"])


def test_no_password_is_in_the_environment_and_nothing_is_published_beyond_loopback() -> None:
    for name, service in SERVICES.items():
        passwords = [key for key in service.get("environment", {}) if "PASSW" in key and not key.endswith("_FILE")]
        assert passwords == [], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    used = [word for name in OURS for word in [*SERVICES[name].get("entrypoint", ()), *SERVICES[name]["command"]]]
    assert not [word for word in used if "tcp://" in word]
    for name in OURS[:-1]:
        flags = {word.partition("=")[0] for word in SERVICES[name]["command"]}
        assert {"--tls-ca-file", "--tls-cert", "--tls-key"} <= flags, name


def test_what_a_service_reads_under_run_secrets_was_given_to_it() -> None:
    for name, service in SERVICES.items():
        words = [*service["command"], *service.get("environment", {}).values()]
        read = {word.partition("/run/secrets/")[2] for word in words if "/run/secrets/" in word}
        assert read <= set(service["secrets"]), name


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_certificates_are_the_users_alone_and_are_never_overwritten(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert made.key.stat().st_mode & 0o077 == 0
    before = made.key.read_bytes()
    with pytest.raises(ConfigError, match="has certificates already"):
        make_certificates(tmp_path / "secrets")
    assert made.key.read_bytes() == before


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


class OnLoopback:
    """Turns what a container would run into what can run here: other addresses, ports and folders, nothing else."""

    def __init__(self, folder: Path, secrets: Path) -> None:
        scheduler, dashboard = free_port(), free_port()
        self._folder = folder
        self._changes = {
            "tls://scheduler:8786": f"tls://127.0.0.1:{scheduler}",
            "--port=8786": f"--port={scheduler}",
            "0.0.0.0": "127.0.0.1",
            "/run/secrets": str(secrets),
            "8787": str(dashboard),
        }
        self._health = {name: str(free_port()) for name in OURS}

    def words(self, service: str, words: Sequence[str]) -> list[str]:
        changes = self._changes | {"8790": self._health[service]}
        for before, after in changes.items():
            words = [word.replace(before, after) for word in words]
        programs = Path(sys.executable).parent
        return [str(programs / words[0]) if (programs / words[0]).exists() else words[0], *words[1:]]

    def command(self, service: str) -> list[str]:
        found = SERVICES[service]
        return self.words(service, [*found.get("entrypoint", ["alflow"]), *found["command"]])

    def environment(self, service: str) -> dict[str, str]:
        own = {"TMPDIR": str(self._folder), "PYTHONPATH": str(ROOT)}
        return os.environ | own | SERVICES[service].get("environment", {})

    def healthy(self, service: str) -> bool:
        check = self.words(service, SERVICES[service]["healthcheck"]["test"][1:])
        return subprocess.run(check, capture_output=True, check=False, timeout=60).returncode == 0


@contextmanager
def running(folder: Path, here: OnLoopback, *services: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for service in services:
            (folder / service).mkdir()
            with (folder / f"{service}.txt").open("w") as output:
                started[service] = subprocess.Popen(
                    here.command(service), cwd=folder / service, env=here.environment(service),
                    stdout=output, stderr=output,
                )  # fmt: skip
        yield started
    finally:
        for process in reversed(started.values()):
            process.terminate()
        for process in started.values():
            process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_the_command_lines_of_compose_run_a_campaign(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    make_certificates(secrets)
    here = OnLoopback(tmp_path, secrets)
    pools = ("label", "explore", "train")
    with running(tmp_path, here, "scheduler", *pools) as started:
        healthy: set[str] = set()
        ends = time.monotonic() + 90
        while healthy != set(started):
            healthy |= {name for name in started if name not in healthy and here.healthy(name)}
            assert time.monotonic() < ends, (healthy, *((tmp_path / f"{n}.txt").read_text()[-500:] for n in started))
        (address,) = [word for word in here.command("label") if word.startswith("tls://")]
        paths = {"ca": secrets / "cert.pem", "cert": secrets / "cert.pem", "key": secrets / "key.pem"}
        security = {name: str(path) for name, path in paths.items()}
        campaign = settings(tmp_path, executor="dask", cluster={"address": address, "security": security})
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign))
        assert CampaignConfig.model_validate(campaign).cluster.address == address
        done = subprocess.run(
            here.command("orchestrator"), cwd=tmp_path, env=here.environment("orchestrator"),
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    check_promises(tmp_path / "toy.db")
    ((pools_told,),) = rows(tmp_path / "toy.db", "SELECT payload_json FROM events WHERE seq = 1")
    assert json.loads(pools_told)["pools"] == {"explore": 1, "label": 1, "train": 1}
