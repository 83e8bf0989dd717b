"""Molecular dynamics of many structures at once: velocity Verlet (NVE) and BAOAB Langevin (NVT).

:func:`start_dynamics` makes a state, :func:`velocity_verlet_step` or :func:`langevin_step` advance it by one step,
with one call of the potential for the whole batch. The state is float64 whatever the potential computes in; the
committee's mean forces drive the atoms. Each integrator conserves :func:`conserved_energy`.

============  =====================  ==============================================
symbol        variable               meaning
============  =====================  ==============================================
r             ``positions``          positions, Å
v             ``velocities``         velocities, Å/fs
a = F/m       ``accelerations``      acceleration by the mean force, Å/fs²
m             ``masses``             masses, u
V             ``energies``           mean potential energy, eV
Δt            ``timestep``           time step, fs
T             ``temperature``        temperature of the bath, K
γ             ``friction``           friction of the bath, 1/fs
ξ             ``noise``              standard normals
Q             ``heat``               energy taken from the bath so far, eV
============  =====================  ==============================================

A free molecule must not drift away through rounding errors. With ``remove_drift`` the net force and the net
momentum of the noise are taken out, each by the projection that is orthogonal in mass-weighted coordinates
(aᵢ → aᵢ − Σ mⱼaⱼ / M). Total momentum then stays zero, and the remaining 3N − 3 degrees of freedom are still driven
by an exact Langevin equation. Rotation is deliberately left alone: under Langevin the bath holds it at k_B T/2 per
axis, so it can neither freeze nor spin up, and taking it out would bias the sampled shapes by the moment of inertia.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from alflow.domain.elements import MASSES_U
from alflow.tensors import Batch, Potential, Prediction
from alflow.units import BOLTZMANN_EV_K, EV_PER_U_ANG2_FS2

__all__ = [
    "DynamicsState",
    "conserved_energy",
    "kinetic_energy",
    "langevin_step",
    "select_structures",
    "start_dynamics",
    "velocity_verlet_step",
]


@dataclass(frozen=True, eq=False)
class DynamicsState:
    """A batch of structures in motion, at one step.

    Attributes:
        batch: The structures, float64; a potential that computes in another type casts them after centering.
        positions: Positions, Å, float64, shape (structure, atom, 3).
        velocities: Velocities, Å/fs, float64, shape (structure, atom, 3); zero where there is no atom.
        accelerations: Mean force over mass, Å/fs², float64, shape (structure, atom, 3).
        masses: Masses, u, shape (structure, atom, 1); zero where there is no atom.
        inverse_masses: 1/m, 1/u, shape (structure, atom, 1); zero where there is no atom.
        mass_fractions: m/M, shape (structure, 1, atom); all zero when the drift is not removed.
        present: 1 where there is an atom, else 0, float64, shape (structure, atom, 1).
        energies: Mean potential energy, eV, float64, shape (structure,).
        heat: Energy taken from the bath since the start, eV, shape (structure,).
        prediction: What every member said about these positions.
    """

    batch: Batch
    positions: torch.Tensor
    velocities: torch.Tensor
    accelerations: torch.Tensor
    masses: torch.Tensor
    inverse_masses: torch.Tensor
    mass_fractions: torch.Tensor
    present: torch.Tensor
    energies: torch.Tensor
    heat: torch.Tensor
    prediction: Prediction


def start_dynamics(
    potential: Potential, batch: Batch, velocities: torch.Tensor, remove_drift: bool = True
) -> DynamicsState:
    """Evaluate the potential once and make the state the integrators advance.

    Args:
        potential: What pulls the atoms.
        batch: The structures, float64.
        velocities: Velocities, Å/fs, shape (structure, atom, 3).
        remove_drift: Keep the total momentum of every structure at zero (see the module's text). Velocities are
            taken as they are: draw them without drift, too.

    Raises:
        ValueError: Positions are not float64 or velocities have another shape.
    """
    if batch.positions.dtype != torch.float64:
        raise ValueError(f"Dynamics are done in float64; found positions in {batch.positions.dtype}.")
    if velocities.shape != batch.positions.shape:
        raise ValueError(f"Velocities need the shape of the positions, {tuple(batch.positions.shape)}; "
                         f"found {tuple(velocities.shape)}.")  # fmt: skip
    table = torch.tensor((0.0, *MASSES_U[1:]), dtype=torch.float64, device=batch.positions.device)
    masses = table[batch.numbers][:, :, None]
    inverse = torch.where(masses > 0, 1.0 / masses.clamp(min=1e-6), 0.0)
    fractions = masses / masses.sum(dim=1, keepdim=True) if remove_drift else torch.zeros_like(masses)
    fractions = fractions.transpose(1, 2)
    present = (masses > 0).to(torch.float64)
    prediction = potential.predict(batch)
    return DynamicsState(
        batch=batch,
        positions=batch.positions,
        velocities=velocities.to(torch.float64),
        accelerations=_accelerations(prediction, inverse, fractions, present),
        masses=masses,
        inverse_masses=inverse,
        mass_fractions=fractions,
        present=present,
        energies=_energies(prediction),
        heat=torch.zeros(batch.n_structures, dtype=torch.float64, device=masses.device),
        prediction=prediction,
    )


def velocity_verlet_step(potential: Potential, state: DynamicsState, timestep: float) -> DynamicsState:
    """Advance by one velocity-Verlet step at constant energy.

    v ← v + ½Δt a(r);  r ← r + Δt v;  v ← v + ½Δt a(r). Symplectic and time-reversible; V + K oscillates within
    O(Δt²) (Swope et al., J. Chem. Phys. 76, 637 (1982)). Stable for Δt < 2/ω_max, accurate well below.

    Args:
        potential: What pulls the atoms.
        state: Where they are now.
        timestep: Δt, fs; negative runs back in time.
    """
    half = 0.5 * timestep
    velocities = state.velocities + half * state.accelerations
    positions = state.positions + timestep * velocities
    return _kick(potential, state, positions, velocities, state.heat, half)


def langevin_step(
    potential: Potential,
    state: DynamicsState,
    noise: torch.Tensor,
    timestep: float,
    temperature: float,
    friction: float,
) -> DynamicsState:
    """Advance by one BAOAB step of Langevin dynamics at constant temperature.

    B: v ← v + ½Δt a;  A: r ← r + ½Δt v;  O: v ← c v + √((1 − c²) k_B T/m) ξ, c = exp(−γΔt);  A;  B
    (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34, eq. 10). In a harmonic well the sampled positions
    have exactly the variance k_B T/k for every stable time step.

    Args:
        potential: What pulls the atoms.
        state: Where they are now.
        noise: Standard normals ξ, shape (structure, atom, 3).
        timestep: Δt, fs.
        temperature: T, K.
        friction: γ, 1/fs.
    """
    half = 0.5 * timestep
    damping = math.exp(-friction * timestep)
    variance = (1.0 - damping * damping) * BOLTZMANN_EV_K * temperature / EV_PER_U_ANG2_FS2
    kicks = _without_drift(noise * (variance * state.inverse_masses).sqrt(), state.mass_fractions, state.present)
    before = state.velocities + half * state.accelerations
    after = damping * before + kicks
    twice_mean = before + after
    positions = state.positions + half * twice_mean
    # m (v₂² − v₁²) = m (v₂ + v₁)(v₂ − v₁), without the cancellation of two large squares.
    gained = (state.masses * twice_mean * (after - before)).flatten(1).sum(dim=1)
    heat = state.heat + 0.5 * EV_PER_U_ANG2_FS2 * gained
    return _kick(potential, state, positions, after, heat, half)


def kinetic_energy(state: DynamicsState) -> torch.Tensor:
    """Kinetic energy K = ½ Σ m v², eV, shape (structure,)."""
    return 0.5 * EV_PER_U_ANG2_FS2 * (state.masses * state.velocities.square()).flatten(1).sum(dim=1)


def conserved_energy(state: DynamicsState) -> torch.Tensor:
    """What the integrator conserves: V + K − Q, eV, shape (structure,).

    At constant energy Q = 0. Under Langevin it is the total energy minus the heat from the bath (Bussi and
    Parrinello, Phys. Rev. E 75, 056707 (2007), eq. 27); its drift measures the error of the time step.
    """
    return state.energies + kinetic_energy(state) - state.heat


def select_structures(state: DynamicsState, index: torch.Tensor) -> DynamicsState:
    """Go on with some of the structures, by index or boolean mask over structures."""
    prediction = state.prediction
    return DynamicsState(
        batch=state.batch.select(index),
        positions=state.positions[index],
        velocities=state.velocities[index],
        accelerations=state.accelerations[index],
        masses=state.masses[index],
        inverse_masses=state.inverse_masses[index],
        mass_fractions=state.mass_fractions[index],
        present=state.present[index],
        energies=state.energies[index],
        heat=state.heat[index],
        prediction=Prediction(
            prediction.energies[:, index],
            prediction.forces[:, index],
            None if prediction.stress is None else prediction.stress[:, index],
        ),
    )


def _kick(
    potential: Potential,
    state: DynamicsState,
    positions: torch.Tensor,
    velocities: torch.Tensor,
    heat: torch.Tensor,
    half: float,
) -> DynamicsState:
    """Evaluate the potential at the new positions and give the closing half kick."""
    batch = state.batch.with_positions(positions)
    prediction = potential.predict(batch)
    accelerations = _accelerations(prediction, state.inverse_masses, state.mass_fractions, state.present)
    return replace(
        state,
        batch=batch,
        positions=positions,
        velocities=velocities + half * accelerations,
        accelerations=accelerations,
        energies=_energies(prediction),
        heat=heat,
        prediction=prediction,
    )


def _accelerations(
    prediction: Prediction, inverse: torch.Tensor, fractions: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    forces = prediction.mean_forces.detach().to(torch.float64)
    return _without_drift(forces * (inverse / EV_PER_U_ANG2_FS2), fractions, present)


def _without_drift(vectors: torch.Tensor, fractions: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Take the centre of mass's share out: xᵢ − Σ mⱼxⱼ / M for every atom, nothing where there is no atom."""
    return torch.baddbmm(vectors, present, torch.bmm(fractions, vectors), alpha=-1.0)


def _energies(prediction: Prediction) -> torch.Tensor:
    return prediction.energy.detach().to(torch.float64)
