"""Where labels run in these tests, and the proof that they leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import psutil
import pytest

from alflow.reference import LabelRequest, close_guards


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch folders go; after each test there is none, and of processes that were not there before only guards
    with nothing to do, which end when they are told to."""
    close_guards()
    before = set(psutil.Process().children(recursive=True))  # Dask, in other tests, leaves a resource tracker
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    for process in set(psutil.Process().children(recursive=True)) - before:
        assert "alflow.reference.child" in process.cmdline()
        assert process.children() == []
    close_guards()
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture
def other_parent(tmp_path: Path, scratch: Path) -> Iterator[Callable[[LabelRequest], subprocess.Popen[bytes]]]:
    """Start another process that runs a label, so that it can be killed."""
    started: list[subprocess.Popen[bytes]] = []
    script = (
        "import pickle, sys; from alflow.reference import run_label; run_label(pickle.load(open(sys.argv[1], 'rb')))"
    )

    def start(asked: LabelRequest) -> subprocess.Popen[bytes]:
        (tmp_path / "request").write_bytes(cloudpickle.dumps(asked))
        environment = os.environ | {"TMPDIR": str(scratch)}
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "request")], env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
