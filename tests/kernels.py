"""``python -m tests.kernels``: what a campaign compiles is compiled once, before tests side by side would all do it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from alflow.campaign.launch import run_campaign

from .campaign.toys import toy

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        run_campaign(toy(Path(folder), label_budget=6))
