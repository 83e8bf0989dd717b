"""The configuration of a campaign: plain fields, units in their names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from alflow.campaign.initial_config import InitialConfig, initial_beside
from alflow.campaign.pool_config import ClusterConfig, PoolsConfig
from alflow.campaign.slurm_config import SlurmCluster
from alflow.campaign.teacher import beside
from alflow.domain.config import ClosedModel, explain
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.errors import ConfigError
from alflow.reference.config import PyscfConfig, ReferenceConfig

__all__ = ["CampaignConfig", "available_cores", "comparable", "load_config", "parse_config"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

NAME_PATTERN: Final = r"^[\w][\w .+-]{0,79}$"
"""What may name a campaign: it becomes part of a folder's name."""


class CampaignConfig(ClosedModel):
    """Everything a campaign is told. Only ``structures`` has no default.

    Attributes:
        structures: File with the starting geometry or geometries, any format ASE reads.
        name: Name of the campaign in the database.
        database: File (SQLite, in the folder you stand in unless a path is given) or URL (PostgreSQL).
        charge: Total charge of every structure, e.
        multiplicity: Spin multiplicity 2S + 1 of every structure.
        reference: What makes the labels: PySCF, xTB, an ASE calculator, a trained committee, or a toy.
        temperature_k: Temperature of the walkers, K.
        timestep_fs: Time step of the dynamics, fs.
        friction_per_ps: Langevin friction, 1/ps.
        ensemble: ``nvt`` (Langevin) or ``nve`` (velocity Verlet).
        walkers: Number of walkers.
        segment_steps: Longest stretch a group of walkers runs in one task, steps.
        label_budget: Labels the campaign may spend, audit labels included.
        initial_labels: Labels made of rattled starting frames before the first committee.
        initial: Labels of the database, or a trained committee, to begin with instead.
        labels_per_generation: New labels that start the next training.
        target_force_error_ev_ang: Mean absolute error of a force component, eV/Å, at which the campaign may stop.
        threshold_ev_ang: Disagreement that pauses a walker, eV/Å; by default derived from the target.
        audit_fraction: Share of the label budget spent on unflagged frames drawn at random.
        audit_minimum: Audit labels needed before the stop rule may end the campaign.
        quiet_ps: The campaign ends when its walkers together go this long without a flag, ps.
        flag_spacing_fs: Shortest time between two flags of one walker, fs.
        duplicate_tolerance_ang: Two frames whose interatomic distances differ by less (r.m.s.) are the same, Å.
        barrier: Whether moving, labelling and training take turns, each waiting for the last task of the one before, as
            in other programs; for comparison only.
        queue_capacity: Label requests kept waiting; by default as many as there are walkers.
        cores: Cores to use; by default all of this process's.
        executor: ``dask`` (parallel) or ``inline`` (one task at a time, for tests and debugging).
        pools: Separate workers for labels, dynamics and training; by default one pool takes every task, which keeps
            every core of one machine busy.
        cluster: ``local`` (workers on this machine, started and ended with the campaign), or ``address:`` or
            ``scheduler_file:`` of a Dask cluster that is there already, or ``slurm:`` with jobs that are submitted.
        dashboard_address: Where Dask's dashboard listens; loopback only.
        seed: Seed of everything random.
        model: The potential.
        training: How it is trained.
    """

    structures: str
    name: Annotated[str, Field(pattern=NAME_PATTERN)] = "campaign"
    database: Annotated[str, Field(min_length=1)] = "alflow.db"
    charge: int = 0
    multiplicity: Count = 1
    reference: ReferenceConfig = PyscfConfig(engine="pyscf")
    temperature_k: Annotated[float, Field(ge=1, le=20000)] = 300.0
    timestep_fs: Annotated[float, Field(ge=0.001, le=10)] = 0.5
    friction_per_ps: Positive = 5.0
    ensemble: Literal["nvt", "nve"] = "nvt"
    walkers: Count = 16
    segment_steps: Annotated[int, Field(ge=10)] = 400
    label_budget: Annotated[int, Field(ge=4)] = 100
    initial_labels: Annotated[int, Field(ge=3)] = 8
    initial: InitialConfig = InitialConfig()
    labels_per_generation: Count = 8
    target_force_error_ev_ang: Positive = 0.05
    threshold_ev_ang: Positive | None = None
    audit_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    audit_minimum: Annotated[int, Field(ge=3)] = 10
    quiet_ps: Annotated[float, Field(gt=0, le=1e9)] = 200.0
    flag_spacing_fs: Annotated[float, Field(ge=0, le=1e6)] = 10.0
    duplicate_tolerance_ang: Annotated[float, Field(ge=0)] = 0.01
    barrier: bool = False
    queue_capacity: Count | None = None
    cores: Count | None = None
    executor: Literal["dask", "inline"] = "dask"
    pools: PoolsConfig | None = None
    cluster: ClusterConfig = "local"
    dashboard_address: str = "127.0.0.1:8787"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _combinations(self) -> CampaignConfig:
        if self.initial_labels >= self.label_budget:
            raise ValueError(
                f"initial_labels ({self.initial_labels}) must be smaller than label_budget ({self.label_budget}): "
                "nothing would be left to learn from dynamics"
            )
        if self.model.members < 2:
            raise ValueError("model.members must be at least 2: one potential cannot disagree with itself")
        host, _, port = self.dashboard_address.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            raise ValueError(f"dashboard_address must end in a port, as in '127.0.0.1:8787' (found {port!r})")
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            raise ValueError(
                f"dashboard_address must be on loopback, such as '127.0.0.1:8787' (found "
                f"{self.dashboard_address!r}): the dashboard has no password; use an SSH tunnel to see it from afar"
            )
        return self

    @model_validator(mode="after")
    def _places(self) -> CampaignConfig:
        """Labels have the threads of their pool; of a cluster that is there already nothing is started."""
        wanted = self.pools.label.threads if self.pools is not None else None
        if wanted is not None and wanted != self.reference.threads:
            if "threads" in self.reference.model_fields_set:
                raise ValueError(
                    f"pools.label.threads ({wanted}) and reference.threads ({self.reference.threads}) are the same "
                    "thing and differ; give one of them"
                )
            object.__setattr__(self, "reference", self.reference.model_copy(update={"threads": wanted}))
        if self.cluster != "local":
            if self.executor == "inline":
                raise ValueError("executor: inline runs in this process; with cluster: it must be dask")
            for kind in ("label", "explore", "train"):
                told = getattr(self.pools, kind, None)
                if told is not None and (told.workers or told.memory_gib or told.environment):
                    raise ValueError(
                        f"pools.{kind}: workers, memory_gib and environment belong to whoever starts the workers of "
                        "the cluster; only threads can be given here"
                    )
        if isinstance(self.cluster, SlurmCluster):
            self.cluster.check_times(self.reference.time_limit_s)
        return self

    @property
    def capacity(self) -> int:
        """Label requests kept waiting."""
        return self.queue_capacity if self.queue_capacity is not None else max(self.walkers, self.initial_labels)

    @property
    def audit_budget(self) -> int:
        """Labels set aside for audit frames."""
        return round(self.audit_fraction * self.label_budget)


def comparable(config: CampaignConfig) -> dict[str, Any]:
    """The configuration as JSON values, without what may differ between two runs of the same campaign."""
    data: dict[str, Any] = config.model_dump(mode="json", exclude={"database", "structures", "dashboard_address"})
    data["structures"] = Path(config.structures).name
    return data


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def parse_config(data: Mapping[str, Any], what: str = "configuration") -> CampaignConfig:
    """Build a configuration from a mapping.

    Args:
        data: Keys and values, as read from YAML or from the database.
        what: Where it comes from, for the error message.

    Raises:
        ConfigError: Anything that cannot be used, one sentence per mistake.
    """
    try:
        return CampaignConfig.model_validate(dict(data))
    except ValidationError as error:
        raise explain(error, what) from None


def load_config(path: Path) -> CampaignConfig:
    """Read a campaign from a YAML file. ``structures`` and files of committees are looked up beside that file.

    Raises:
        ConfigError: The file is missing, is not YAML, is not a mapping, or says something impossible.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected a campaign in YAML.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}).") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{where}: {getattr(error, 'problem', error)}.") from None
    if data is None:
        raise ConfigError(f"{path}: the file is empty; expected keys such as structures, temperature_k, label_budget.")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values; found a {type(data).__name__}.")
    structures = data.get("structures")
    if isinstance(structures, str) and not Path(structures).is_absolute():
        data["structures"] = str(path.parent / structures)
    if "reference" in data:
        data["reference"] = beside(path, data["reference"])
    if "initial" in data:
        data["initial"] = initial_beside(path, data["initial"])
    return parse_config(data, str(path))
