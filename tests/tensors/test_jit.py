"""Compiled functions are kept between processes, and made anew when what they were made from has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from alflow.tensors.jit import _Files

MODULE = """
from alflow.tensors.jit import compiled, inlined

@inlined
def factor():
    return {factor}.0

@compiled
def scaled(x):
    return x * factor()
"""
ASK = "import bench; print(bench.scaled(2.0), sum(bench.scaled.stats.cache_hits.values()))"


def ask(folder: Path, cache: Path | None = None) -> tuple[float, int]:
    """What a fresh process computes, and how often it found the machine code on disk."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    environment.pop("NUMBA_CACHE_DIR", None)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    line = [sys.executable, "-c", ASK]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=120)
    value, hits = done.stdout.split()
    return float(value), int(hits)


def write(folder: Path, factor: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "bench.py").write_text(MODULE.format(factor=factor))


def test_a_second_process_finds_the_machine_code(tmp_path: Path) -> None:
    write(tmp_path / "m", 3)
    assert [ask(tmp_path / "m") for _ in range(2)] == [(6.0, 0), (6.0, 1)]


def test_what_was_made_from_another_text_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "m", 3)
    assert ask(tmp_path / "m") == (6.0, 0)
    write(tmp_path / "m", 11)
    assert ask(tmp_path / "m") == (22.0, 0)


def test_a_file_beside_the_function_counts_too(tmp_path: Path) -> None:
    write(tmp_path / "m", 3)
    assert ask(tmp_path / "m") == (6.0, 0)
    (tmp_path / "m" / "other.py").write_text("from alflow.tensors.jit import compiled\n")
    assert ask(tmp_path / "m") == (6.0, 0)
    assert ask(tmp_path / "m") == (6.0, 1)


def test_the_cache_may_be_put_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "m", 3)
    assert [ask(tmp_path / "m", tmp_path / "cache") for _ in range(2)] == [(6.0, 0), (6.0, 1)]
    assert any((tmp_path / "cache").rglob("*.nbi"))


def test_processes_that_compile_at_the_same_time_do_not_mix_their_machine_code(tmp_path: Path) -> None:
    """Both have read the index before either wrote it, and the first writes it last."""
    files = _Files(str(tmp_path), "scaled", source_stamp=1)
    files.save("float32", "code of float32")
    index = (tmp_path / "scaled.nbi").read_bytes()
    (tmp_path / "scaled.nbi").unlink()
    files.save("float64", "code of float64")
    (tmp_path / "scaled.nbi").write_bytes(index)
    assert files.load("float32") == "code of float32"
    assert files.load("float64") is None, "which is compiled again"
