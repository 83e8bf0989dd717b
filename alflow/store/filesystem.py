"""Where a database file may live: SQLite's write-ahead log needs a disk of this machine.

Its readers and writers share a memory-mapped index, which a network file system does not keep coherent
(https://sqlite.org/wal.html); the result is a lost or a damaged database, so such folders are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from alflow.errors import StoreError

__all__ = ["is_network", "mount_of", "mounts_of_this_machine", "refuse_network"]

_NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "ncpfs", "9p", "afs", "openafs", "lustre", "gpfs", "mmfs", "beegfs", "beegfs_nodev"),
        *("ceph", "orangefs", "pvfs2", "panfs", "glusterfs", "ocfs2", "gfs2", "coda", "davfs", "wekafs", "vastfs"),
        *("daos", "moosefs", "lizardfs", "quobyte", "dvs"),
    }
)
_NETWORK_FUSE: Final = frozenset(
    {
        *("sshfs", "ceph", "ceph-fuse", "glusterfs", "s3fs", "gcsfuse", "goofys", "rclone", "juicefs", "davfs2"),
        *("dfuse", "mfs", "moosefs", "lizardfs", "quobyte", "cvmfs2", "smbnetfs", "curlftpfs", "blobfuse", "blobfuse2"),
        *("hdfs", "fuse_dfs", "seaweedfs", "weed", "onedrive", "google-drive-ocamlfuse", "beegfs"),
    }
)


def mounts_of_this_machine() -> str:
    """Mounts table of this machine, in the format of ``/proc/mounts``; empty where there is none (macOS)."""
    table = Path("/proc/mounts")
    return table.read_text(errors="replace") if table.exists() else ""


def mount_of(folder: Path, mounts: str) -> tuple[str, str] | None:
    """Find the mount a folder lies on.

    Args:
        folder: An absolute folder.
        mounts: Mounts table in the format of ``/proc/mounts``.

    Returns:
        Mount point and type of its file system; None if the table does not say.

    Examples:
        >>> mount_of(Path("/home/ada/run"), "/dev/sda1 / ext4 rw 0 0\\nfiler:/home /home nfs4 rw 0 0\\n")
        ('/home', 'nfs4')
    """
    best: tuple[str, str] | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point, kind = _unescape(fields[1]), fields[2]
        if folder.is_relative_to(point) and (best is None or len(point) >= len(best[0])):
            best = (point, kind)  # of two mounts on one point, the later one hides the earlier
    return best


def is_network(kind: str) -> bool:
    """Tell whether a type of file system reaches over a network.

    Examples:
        >>> [is_network(kind) for kind in ("ext4", "nfs4", "smb3", "fuse.sshfs", "overlay", "fuse.portal")]
        [False, True, True, True, False, False]
    """
    kind = kind.lower()
    return kind in _NETWORK or kind.startswith("smb") or kind.removeprefix("fuse.") in _NETWORK_FUSE


def refuse_network(folder: Path, mounts: str) -> None:
    """Refuse a folder on a network file system.

    Args:
        folder: The folder of the database file, absolute, without symbolic links.
        mounts: Mounts table in the format of ``/proc/mounts``.

    Raises:
        StoreError: The folder reaches over a network.
    """
    mount = mount_of(folder, mounts)
    if mount is not None and is_network(mount[1]):
        raise StoreError(
            f"The folder {folder} is on a network file system ({mount[1]}, mounted at {mount[0]}), where SQLite can "
            "lose or damage a database. Put the store on a disk of this machine, or use PostgreSQL: "
            "postgresql://user@host/database."
        )


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
