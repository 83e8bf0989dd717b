"""What can be a name in a manifest for Kubernetes, so that what cannot is said before ``kubectl apply``."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from alflow.domain.identity import digest_of_bytes
from alflow.errors import ConfigError

__all__ = ["POSTGRES", "check_image", "database_host", "namespace_of", "scheduler_place", "without_password"]

POSTGRES: Final = 5432
"""Port of the database that is started."""

LONGEST: Final = 63
"""Characters of a namespace (RFC 1123)."""

_SERVICE: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def namespace_of(campaign: str) -> str:
    """A namespace for a campaign: its name, or what is like it, told from others by a digest.

    Examples:
        >>> namespace_of("water"), namespace_of("Water")
        ('alflow-water', 'alflow-water-7ca7dea9')
    """
    wanted = f"alflow-{campaign}"
    found = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    if found == wanted and len(found) <= LONGEST:
        return found
    digest = digest_of_bytes(campaign.encode())[:8]
    return f"{found[: LONGEST - 1 - len(digest)].strip('-')}-{digest}"


def check_image(image: str) -> None:
    """Refuse what cannot be an image.

    Raises:
        ConfigError: It is empty, or has characters that no name of an image has.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.:/@-]*", image, re.ASCII):
        raise ConfigError(f"--image {image!r}: expected the name of an image, such as registry.example.org/alflow:1.")


def scheduler_place(address: str) -> tuple[str, int]:
    """Host and port of the scheduler, which become those of a service.

    Raises:
        ConfigError: They cannot.
    """
    place = urlsplit(address)
    host, port = place.hostname or "", _port(place.netloc)
    if not _SERVICE.fullmatch(host) or not 0 < port < 65536:
        raise ConfigError(
            f"cluster.address: {host}:{port} cannot be the name of a service and its port; say tls://scheduler:8786."
        )
    return host, port


def database_host(url: str, scheduler: str) -> str:
    """Host of the database. With a dot in it, it is somebody else's; without, it becomes the name of a service.

    Args:
        url: Address of the database.
        scheduler: The name that the scheduler's service has.

    Raises:
        ConfigError: It cannot be started as that address says.
    """
    place = urlsplit(url)
    host = place.hostname or ""
    if "." in host:
        return host
    wrong = None
    if not _SERVICE.fullmatch(host) or host == scheduler:
        wrong = f"{host!r} cannot be the name of its service"
    elif ":" in place.netloc.rpartition("@")[2] and _port(place.netloc) != POSTGRES:
        wrong = f"the service that is started listens at port {POSTGRES}"
    elif not place.path.lstrip("/"):
        wrong = "its address names no database"
    if wrong is not None:
        raise ConfigError(f"database: {wrong}; say postgresql://alflow@database/alflow.")
    return host


def without_password(url: str) -> str:
    """An address as it may be in a manifest.

    Examples:
        >>> without_password("postgresql://alflow:secret@database/alflow?sslmode=require&password=secret")
        'postgresql://alflow@database/alflow?sslmode=require'
    """
    place = urlsplit(url)
    user, at, host = place.netloc.rpartition("@")
    query = "&".join(part for part in place.query.split("&") if not part.startswith("password="))
    return urlunsplit(place._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query))


def _port(place: str) -> int:
    """The number behind the colon, whatever it is; 0 without."""
    digits = place.rpartition(":")[2]
    return int(digits) if re.fullmatch(r"[0-9]{1,9}", digits) else 0
