"""Manifests with which Kubernetes runs a campaign: the same processes as docker/compose.yaml, with the same commands.

Nothing but plain objects: no operator, no chart. Passwords and keys are in secrets that somebody else makes; workers
get none but the certificate by which they know the scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from alflow.campaign.config import CampaignConfig
from alflow.campaign.kubernetes_names import (
    POSTGRES,
    check_image,
    database_host,
    namespace_of,
    scheduler_place,
    without_password,
)
from alflow.campaign.pool_config import ExternalCluster, SecurityConfig
from alflow.campaign.pools import KINDS, Kind, threads_for, worker_environment
from alflow.errors import ConfigError

__all__ = ["manifests"]

Object = dict[str, Any]

SECRETS: Final = "/run/secrets"
USER: Final = 1000
DASHBOARD: Final = 8787
WORKER_HEALTH: Final = 8790

DRAIN_FILE: Final = "/tmp/drain"
LEAVE_S: Final = 600
"""What a worker that is to end may take for it, s: the most that cluster autoscalers wait for by default."""

HURRY_S: Final = 30
"""Its labels must be done, or have left a checkpoint, so long before; so long after, it is killed, s."""

OWN_MEMORY_MIB: Final[Mapping[Kind, int]] = {"explore": 2048, "train": 6144}
"""What a worker's own process may use before its nanny starts it again."""

BESIDE_MIB: Final[Mapping[Kind, int]] = {"label": 1024, "explore": 1024, "train": 2048}
"""What its container may use besides."""

LABEL_WORKERS: Final = 2


@dataclass(frozen=True)
class _Setting:
    """What the objects of a campaign have in common.

    Attributes:
        namespace: Where they live.
        image: Image with alflow in it.
        address: Host and port of the scheduler.
        url: Address of the database.
    """

    namespace: str
    image: str
    address: tuple[str, int]
    url: str

    def labels(self, component: str) -> dict[str, str]:
        """By which the objects of a component are found."""
        return {"app.kubernetes.io/part-of": self.namespace, "app.kubernetes.io/component": component}

    def made(self, version: str, kind: str, name: str, component: str, **rest: Any) -> Object:
        """An object."""
        about = {"name": name, "namespace": self.namespace, "labels": self.labels(component)}
        return {"apiVersion": version, "kind": kind, "metadata": about, **rest}


def manifests(config: CampaignConfig, image: str) -> dict[str, list[Object]]:
    """The objects of a campaign, by the file they belong into.

    Args:
        config: A campaign with ``cluster: {address: tls://NAME:PORT, security: …}`` and a PostgreSQL database. The
            names of their hosts become names of services; a database whose host has a dot in its name is somebody
            else's.
        image: Image with alflow in it, as docker/Dockerfile builds it.

    Raises:
        ConfigError: The scheduler or the database is not one that Kubernetes could run.
    """
    setting = _setting(config, image)
    host = database_host(setting.url, setting.address[0])
    made = {"namespace": [_namespace(setting)]}
    if "." not in host:
        made["database"] = _database(setting, host)
    made["scheduler"] = _scheduler(setting)
    for kind in KINDS:
        made[kind] = [_workers(setting, kind, config)]
    made["orchestrator"] = _orchestrator(setting, config.name)
    made["network"] = _network(setting, has_database="database" in made)
    return made


def _setting(config: CampaignConfig, image: str) -> _Setting:
    cluster = config.cluster
    if not isinstance(cluster, ExternalCluster) or cluster.address is None or cluster.security is None:
        raise ConfigError(
            "--kubernetes needs the scheduler that it is to start: cluster: with address: tls://scheduler:8786 and "
            f"security: {{ca: {SECRETS}/cert.pem, cert: {SECRETS}/cert.pem, key: {SECRETS}/key.pem}}."
        )
    _check_paths(cluster.security)
    host, port = scheduler_place(cluster.address)
    if urlsplit(config.database).scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ConfigError(
            f"database: {config.database} is a file, which a container cannot keep; say postgresql://alflow@database/alflow."
        )
    check_image(image)
    return _Setting(namespace_of(config.name), image, (host, port), config.database)


def _check_paths(given: SecurityConfig) -> None:
    wanted = [f"{SECRETS}/cert.pem", f"{SECRETS}/cert.pem", f"{SECRETS}/key.pem"]
    if [str(path) for path in (given.ca, given.cert, given.key)] != wanted:
        raise ConfigError(f"cluster.security: in containers ca, cert and key are {', '.join(wanted)}.")


def _namespace(setting: _Setting) -> Object:
    """No pod that runs as root, or asks for more than it should, is let in here."""
    about = {
        "name": setting.namespace,
        "labels": {
            "app.kubernetes.io/part-of": setting.namespace,
            "pod-security.kubernetes.io/enforce": "restricted",
        },
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": about}


def _database(setting: _Setting, host: str) -> list[Object]:
    address = urlsplit(setting.url)
    environment = {
        "POSTGRES_USER": unquote(address.username or "alflow"),
        "POSTGRES_DB": unquote(address.path.lstrip("/")),
        "POSTGRES_PASSWORD_FILE": f"{SECRETS}/password",
        "PGDATA": "/var/lib/postgresql/data/alflow",
    }
    ready = ["pg_isready", "--host=127.0.0.1", f"--username={environment['POSTGRES_USER']}"]
    probe = _probe([*ready, f"--dbname={environment['POSTGRES_DB']}"], 5, 12)
    container = {
        "name": "database",
        "image": "postgres:17",
        "args": [
            "postgres",
            "--ssl=on",
            f"--ssl_cert_file={SECRETS}/cert.pem",
            f"--ssl_key_file={SECRETS}/key.pem",
        ],
        "env": _environment(environment),
        "ports": [{"name": "postgres", "containerPort": POSTGRES}],
        "volumeMounts": [_mounted("secrets", SECRETS), {"name": "database", "mountPath": "/var/lib/postgresql/data"}],
        "readinessProbe": probe,
        "livenessProbe": probe | {"initialDelaySeconds": 60},
        **_limits(cpu="250m", memory_mib=1024),
    }
    pod = _pod(setting, "database", container, [_secrets("certificates", "database")])
    kept = {"metadata": {"name": "database"}, "spec": _storage("10Gi")}
    spec = {"serviceName": host, "replicas": 1, **_selected(setting, "database", pod), "volumeClaimTemplates": [kept]}
    return [
        setting.made("apps/v1", "StatefulSet", "database", "database", spec=spec),
        _service(setting, host, "database", {"postgres": POSTGRES}),
    ]


def _scheduler(setting: _Setting) -> list[Object]:
    host, port = setting.address
    container = {
        "name": "scheduler",
        "image": setting.image,
        "command": ["dask", "scheduler"],
        "args": [
            "--host=0.0.0.0",
            "--protocol=tls",
            f"--port={port}",
            f"--dashboard-address=0.0.0.0:{DASHBOARD}",
            "--no-jupyter",
            *_certificates(),
        ],
        "env": _environment(
            {
                "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
                "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False",
            }
        ),
        "ports": [{"name": "scheduler", "containerPort": port}, {"name": "dashboard", "containerPort": DASHBOARD}],
        "volumeMounts": [_mounted("secrets", SECRETS), _mounted("scratch", "/tmp")],
        "readinessProbe": _probe(_health(DASHBOARD), 10, 6),
        "livenessProbe": _probe(_health(DASHBOARD), 10, 6) | {"initialDelaySeconds": 30},
        **_limits(cpu="500m", memory_mib=1024),
    }
    pod = _pod(setting, "scheduler", container, [_secrets("certificates"), _scratch()])
    spec = {"replicas": 1, "strategy": {"type": "Recreate"}, **_selected(setting, "scheduler", pod)}
    return [
        setting.made("apps/v1", "Deployment", "scheduler", "scheduler", spec=spec),
        _service(setting, host, "scheduler", {"scheduler": port}),
    ]


def _workers(setting: _Setting, kind: Kind, config: CampaignConfig) -> Object:
    """Equal workers, which drain when they are told to end: ``kubectl scale`` may change their number at any time."""
    host, port = setting.address
    threads, own = threads_for(config, kind), OWN_MEMORY_MIB.get(kind)
    # A second attempt at a label has twice the memory, and so on, which it seldom needs.
    limits = config.reference
    first, most = (
        math.ceil(limit * 1e6 / 2**20) if own is None else own
        for limit in (limits.memory_limit_mb, limits.most_memory_mb)
    )
    container = {
        "name": kind,
        "image": setting.image,
        "command": ["dask", "worker", f"tls://{host}:{port}"],
        "args": [
            f"--resources={kind}=1",
            "--nthreads=1",
            f"--memory-limit={0 if own is None else f'{own // 1024}GiB'}",
            f"--dashboard-address=127.0.0.1:{WORKER_HEALTH}",
            *_certificates(),
            "--preload=alflow.campaign.executors.dask.drain",
        ],
        "env": _environment(
            {
                **worker_environment(threads),
                "ALFLOW_DRAIN_FILE": DRAIN_FILE,
                "ALFLOW_DRAIN_GRACE_S": str(LEAVE_S - HURRY_S),
            }
        ),
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", f"touch {DRAIN_FILE}; sleep {LEAVE_S}"]}}},
        "volumeMounts": [_mounted("secrets", SECRETS), _mounted("scratch", "/tmp")],
        "livenessProbe": _probe(_health(WORKER_HEALTH), 15, 4) | {"initialDelaySeconds": 60},
        **_limits(str(threads), first + BESIDE_MIB[kind], most + BESIDE_MIB[kind]),
    }
    pod = _pod(setting, kind, container, [_secrets("certificates"), _scratch()])
    pod["spec"]["terminationGracePeriodSeconds"] = LEAVE_S + HURRY_S
    replicas = LABEL_WORKERS if kind == "label" else 1
    return setting.made(
        "apps/v1", "Deployment", kind, kind, spec={"replicas": replicas, **_selected(setting, kind, pod)}
    )


def _orchestrator(setting: _Setting, campaign_name: str) -> list[Object]:
    """A job that is started again until the campaign has ended. It alone knows the password of the database."""
    password = {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}
    campaign = _mounted("campaign", "/campaign") | {"readOnly": False}
    # it beats from its start on, while it waits for workers too; one that hangs needs no time to end
    probe = _probe(["alflow", "status", "--alive", without_password(setting.url), campaign_name], 60, 4)
    container = {
        "name": "orchestrator",
        "image": setting.image,
        "command": ["alflow"],
        "args": ["run", "campaign.yaml"],
        "workingDir": "/campaign",
        "env": [*_environment({"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": f"{SECRETS}/cert.pem"}), password],
        "volumeMounts": [_mounted("secrets", SECRETS), campaign, _mounted("scratch", "/tmp")],
        "livenessProbe": probe
        | {"initialDelaySeconds": 120, "timeoutSeconds": 30, "terminationGracePeriodSeconds": 30},
        **_limits(cpu="1", memory_mib=2048),
    }
    given = {
        "name": "input",
        "image": setting.image,
        "command": ["sh", "-c", "cp -L /input/* /campaign/"],
        "volumeMounts": [_mounted("input", "/input"), campaign],
        "securityContext": _container_security(),
        **_limits(cpu="100m", memory_mib=128),
    }
    volumes = [
        _secrets("certificates"),
        _scratch(),
        {"name": "input", "configMap": {"name": "campaign"}},
        {"name": "campaign", "persistentVolumeClaim": {"claimName": "campaign"}},
    ]
    pod = _pod(setting, "orchestrator", container, volumes)
    pod["spec"] |= {
        "initContainers": [given],
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 900,
    }
    return [
        setting.made("v1", "PersistentVolumeClaim", "campaign", "orchestrator", spec=_storage("10Gi")),
        setting.made("batch/v1", "Job", "orchestrator", "orchestrator", spec={"backoffLimit": 20, "template": pod}),
    ]


def _network(setting: _Setting, has_database: bool) -> list[Object]:
    """Who may talk to whom: the processes of this campaign to each other, to the database the orchestrator alone."""
    ours = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": setting.namespace}}}
    rest = {"key": "app.kubernetes.io/component", "operator": "NotIn", "values": ["database"]}
    processes = {
        "podSelector": {"matchExpressions": [rest]},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [ours]}],
    }
    made = [setting.made("networking.k8s.io/v1", "NetworkPolicy", "processes", "network", spec=processes)]
    if has_database:
        who = {"podSelector": {"matchLabels": setting.labels("orchestrator")}}
        spec = {
            "podSelector": {"matchLabels": setting.labels("database")},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [who], "ports": [{"protocol": "TCP", "port": POSTGRES}]}],
        }
        made.append(setting.made("networking.k8s.io/v1", "NetworkPolicy", "database", "network", spec=spec))
    return made


def _pod(setting: _Setting, component: str, container: Object, volumes: Sequence[Object]) -> Object:
    """A pod that is nobody's but its own user's, and that no autoscaler takes away to save a node."""
    return {
        "metadata": {
            "labels": setting.labels(component),
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container | {"securityContext": _container_security()}],
            "volumes": list(volumes),
        },
    }


def _container_security() -> Object:
    """No rights beyond those of the user."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _service(setting: _Setting, name: str, component: str, ports: Mapping[str, int]) -> Object:
    listed = [{"name": what, "port": port, "targetPort": what} for what, port in ports.items()]
    spec = {"selector": setting.labels(component), "ports": listed}
    return setting.made("v1", "Service", name, component, spec=spec)


def _selected(setting: _Setting, component: str, pod: Object) -> Object:
    return {"selector": {"matchLabels": setting.labels(component)}, "template": pod}


def _secrets(*names: str) -> Object:
    """The files of some secrets in one folder; readable for the pod's group, as PostgreSQL allows for its key."""
    sources = [{"secret": {"name": name}} for name in names]
    return {"name": "secrets", "projected": {"sources": sources, "defaultMode": 0o440}}


def _scratch() -> Object:
    return {"name": "scratch", "emptyDir": {}}


def _mounted(name: str, path: str) -> Object:
    return {"name": name, "mountPath": path} | ({"readOnly": True} if name in ("secrets", "input") else {})


def _storage(size: str) -> Object:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}


def _certificates() -> list[str]:
    return [
        f"--tls-ca-file={SECRETS}/cert.pem",
        f"--tls-cert={SECRETS}/cert.pem",
        f"--tls-key={SECRETS}/key.pem",
    ]


def _environment(values: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _health(port: int) -> list[str]:
    return ["python", "-c", f"from urllib.request import urlopen; urlopen('http://127.0.0.1:{port}/health')"]


def _probe(command: Sequence[str], every_s: int, failures: int) -> Object:
    return {
        "exec": {"command": list(command)},
        "periodSeconds": every_s,
        "timeoutSeconds": 10,
        "failureThreshold": failures,
    }


def _limits(cpu: str, memory_mib: int, most_mib: int | None = None) -> Object:
    """What a container is given, and where its memory ends; a processor that is idle is anybody's."""
    asked = {"cpu": cpu, "memory": f"{memory_mib}Mi"}
    return {"resources": {"requests": asked, "limits": {"memory": f"{most_mib or memory_mib}Mi"}}}
