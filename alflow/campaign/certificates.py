"""Certificates for a cluster: one key, known to all of its processes and to nobody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from alflow.campaign.pool_config import SecurityConfig
from alflow.errors import ConfigError

__all__ = ["make_certificates"]


def make_certificates(folder: Path, days: int = 365) -> SecurityConfig:
    """Write ``cert.pem`` and ``key.pem``: a certificate that is its own authority.

    Scheduler, workers and alflow all show this one certificate and accept no other, so who has the key belongs to the
    cluster, and nobody else does. An authority with a certificate for each process would only matter if they did not
    trust each other; but they run each other's code.

    Args:
        folder: Where; made for this user alone if it is not there.
        days: How long they are valid.

    Raises:
        ConfigError: There is no ``openssl`` here, or there are certificates already.
    """
    security = SecurityConfig(ca=folder / "cert.pem", cert=folder / "cert.pem", key=folder / "key.pem")
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ConfigError(
            "Certificates are made with the program openssl, which is not here; install it, or make them elsewhere "
            f"and put them into {folder} as cert.pem and key.pem."
        )
    if security.cert.exists() or security.key.exists():
        raise ConfigError(f"{folder} has certificates already; remove cert.pem and key.pem to make new ones.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", str(days), "-subj", "/CN=alflow"),
            *("-keyout", str(security.key), "-out", str(security.cert)),
        ],
        capture_output=True,
        text=True,
        umask=0o077,
    )
    if done.returncode:
        raise ConfigError(f"openssl could not make certificates in {folder}: {done.stderr.strip()[-300:]}")
    os.chmod(security.key, 0o600)
    return security
