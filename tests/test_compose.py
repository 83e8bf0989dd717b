"""What the compose file would start, without containers: the same command lines and health checks, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yaml

from alflow import CampaignConfig
from alflow.campaign.certificates import make_certificates
from alflow.campaign.executors.dask import drain
from alflow.campaign.pools import worker_environment
from alflow.errors import ConfigError
from alflow.reference.limits import Limits

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


def test_a_worker_that_is_told_to_end_has_time_to_leave_checkpoints_of_its_labels() -> None:
    """Dask alone would end them at once; and an engine kills after ten seconds, unless it is told otherwise."""
    for kind in ("label", "explore", "train"):
        service = SERVICES[kind]
        assert "--preload=alflow.campaign.executors.dask.drain" in service["command"]
        assert {drain.DRAIN_FILE, drain.DRAIN_AT} & set(service["environment"]), "without orders it does not start"
        assert worker_environment(1).items() <= service["environment"].items(), "as for workers of this machine"
        assert service["init"], "the signal must reach the worker"
        assert float(service["stop_grace_period"].removesuffix("s")) >= 2 * (drain.LAST_CYCLE_S + 8)


def test_the_last_attempt_at_a_label_fits_into_its_container() -> None:
    memory = SERVICES["label"]["deploy"]["resources"]["limits"]["memory"]
    assert int(memory.removesuffix("g")) * 2**30 >= Limits().most_memory_mb * 1e6 + 2**30


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


def test_the_files_that_the_image_copies_are_enough_to_build_the_package(tmp_path: Path) -> None:
    """Everything but the download of what it needs: that takes an engine, and minutes."""
    lines = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    assert copied
    for *sources, target in copied:
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    (install,) = [line for line in lines if "pip install" in line]
    assert install.endswith("-c constraints.txt '.[postgres]'")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("alflow-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "alflow").rglob("*.py")}
    assert wanted <= inside
    assert {"alflow/reports/page/page.html", "alflow/reports/page/page.js"} <= inside
    assert any(name.endswith("0001_first_tables.py") for name in inside), "without migrations no database can be made"


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
            "/tmp/drain": str(folder / "drain"),
            "8787": str(dashboard),
        }
        self._health = {name: str(free_port()) for name in OURS}
        self._database = str(free_port())
        self._changes["@database/"] = f"@127.0.0.1:{self._database}/"

    def words(self, service: str, words: Sequence[str]) -> list[str]:
        changes = self._changes | {"8790": self._health.get(service, "")}
        for before, after in changes.items():
            words = [word.replace(before, after) for word in words]
        programs = Path(sys.executable).parent
        return [str(programs / words[0]) if (programs / words[0]).exists() else words[0], *words[1:]]

    def command(self, service: str) -> list[str]:
        found = SERVICES[service]
        return self.words(service, [*found.get("entrypoint", ["alflow"]), *found["command"]])

    def environment(self, service: str) -> dict[str, str]:
        own = {"TMPDIR": str(self._folder), "PYTHONPATH": str(ROOT), "PGPORT": self._database}
        given = SERVICES[service].get("environment", {})
        return os.environ | own | dict(zip(given, self.words(service, list(given.values())), strict=True))

    def healthy(self, service: str) -> bool:
        check = self.words(service, SERVICES[service]["healthcheck"]["test"][1:])
        given = self.environment(service)
        return subprocess.run(check, capture_output=True, check=False, timeout=60, env=given).returncode == 0


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
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:  # Dask does not always hear of it while it starts
                process.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_the_command_lines_of_compose_run_a_campaign(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    make_certificates(secrets)
    here = OnLoopback(tmp_path, secrets)
    pools = ("label", "explore", "train")
    with running(tmp_path, here, "scheduler", *pools) as started:
        healthy: set[str] = set()
        ends = time.monotonic() + 240  # all of them import torch at once
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


def with_tls() -> Path | None:
    """Programs of a PostgreSQL server that was built with TLS; the one of the other tests was not."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class DatabaseOnLoopback(OnLoopback):
    """The service of the database, whose image makes an empty one with a password first."""

    def __init__(self, folder: Path, secrets: Path, programs: Path) -> None:
        super().__init__(folder, secrets)
        self._programs = programs
        self._user = {"user": 1000, "group": 1000, "extra_groups": []} if os.getuid() == 0 else {}
        (secrets / "pgpass").write_text(f"127.0.0.1:{self._database}:alflow:alflow:secret")
        (secrets / "password").write_text("secret")
        for file in (folder, secrets, *secrets.iterdir()):
            file.chmod(0o700 if file.is_dir() else 0o600)
            if self._user:
                os.chown(file, 1000, 1000)

    def words(self, service: str, words: Sequence[str]) -> list[str]:
        found = super().words(service, words)
        return [str(self._programs / found[0]), *found[1:]] if (self._programs / found[0]).exists() else found

    def environment(self, service: str) -> dict[str, str]:
        return super().environment(service) | ({"PGDATA": str(self._folder / "data")} if service == "database" else {})

    def make(self) -> None:
        """What the image does before it starts the command for the first time."""
        given = SERVICES["database"]["environment"]
        password = self.words("database", [given["POSTGRES_PASSWORD_FILE"]])[0]
        make = [str(self._programs / "initdb"), f"--username={given['POSTGRES_USER']}", f"--pwfile={password}"]
        self.run([*make, "--auth=scram-sha-256", "--no-sync"])
        single = [str(self._programs / "postgres"), "--single", "postgres"]
        self.run(single, f"CREATE DATABASE {given['POSTGRES_DB']}\n")

    def run(self, words: Sequence[str], typed: str = "") -> None:
        given = self.environment("database")
        subprocess.run(words, input=typed, env=given, capture_output=True, text=True, check=True, **self._user)

    @contextmanager
    def serving(self) -> Iterator[None]:
        place = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}"]
        with (self._folder / "log").open("w") as log:
            server = subprocess.Popen(
                [*self.words("database", SERVICES["database"]["command"]), *place],
                env=self.environment("database"), stdout=log, stderr=log, **self._user,
            )  # fmt: skip
        try:
            ends = time.monotonic() + 30
            while not self.healthy("database"):
                assert time.monotonic() < ends, (self._folder / "log").read_text()
                time.sleep(0.1)
            yield
        finally:
            server.send_signal(signal.SIGINT)  # end, whoever is connected
            server.wait(timeout=30)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
@pytest.mark.skipif(with_tls() is None, reason="needs a PostgreSQL server that was built with TLS, as Debian's")
def test_the_orchestrator_of_compose_reaches_its_database_and_no_server_with_another_certificate(
    tmp_path: Path,
) -> None:
    programs = with_tls()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="alflow-compose-"))  # the server runs as another user and must be let in
    try:
        make_certificates(folder / "secrets")
        here = DatabaseOnLoopback(folder, folder / "secrets", programs)
        here.make()
        (address,) = [word for word in SERVICES["orchestrator"]["healthcheck"]["test"] if "://" in word]
        (address,) = here.words("orchestrator", [address])
        campaign = settings(tmp_path, database=address, label_budget=6)
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign))
        with here.serving():
            given, command = here.environment("orchestrator"), here.command("orchestrator")
            assert (given["PGSSLMODE"], Path(given["PGSSLROOTCERT"]).name) == ("verify-ca", "cert.pem")
            asked = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False, "timeout": 100}
            done = subprocess.run(command, env=given, **asked)
            assert done.returncode == 0, done.stdout + done.stderr
            assert here.healthy("orchestrator")
            other = make_certificates(tmp_path / "other")
            # by the driver alone: alflow would wait for such a server, as for any that cannot be reached
            with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
                psycopg.connect(address, passfile=given["PGPASSFILE"], sslmode="verify-ca", sslrootcert=str(other.cert))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
