"""Drive the campaign ``water`` and write labels without end; print the number of each once it is committed.

Run by ``test_killed_writer.py``, which ends it with SIGKILL.
"""

from __future__ import annotations

import sys

import numpy as np

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.store import ExecutionEnd, ExecutionRecord, Holder, Store

LEVEL = Level("toy", {"well_ev": 4.5})


def label_of(number: int) -> Label:
    values = np.random.default_rng(number).normal(size=(2, 20, 3))
    structure = Structure.of(["C"] * 20, values[0])
    return Label(structure, LEVEL, Evaluation(float(number), values[1]))


def main(target: str, first: int) -> None:
    with Store.open(target) as store:
        campaign = store.campaign("water")
        lease = store.acquire(campaign.id, Holder.current(), ttl_s=300.0)
        with store.transaction(lease) as tx:
            tx.close_lost_executions()
        for number in range(first, 10**9):
            key = f"label-{number}.{lease.epoch}"
            with store.transaction(lease) as tx:
                tx.start_execution(ExecutionRecord(campaign.id, key, "label", str(number), epoch=lease.epoch))
            with store.transaction(lease) as tx:
                tx.add_label(label_of(number), key)
                tx.finish_execution(ExecutionEnd(key, "done"))
                tx.append_event("labelled", {"number": number})
            print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
