"""The store: one SQL database that holds everything a campaign knows. Committed means it cannot be lost."""

from alflow.store.asking.expressions import Expression, column
from alflow.store.asking.selection import Selection
from alflow.store.finding import Finding
from alflow.store.lease import Holder, Lease
from alflow.store.records import (
    CampaignRecord,
    CampaignState,
    CommitteeRecord,
    CommitteeState,
    Dataset,
    DatasetRecord,
    EventRecord,
    ExecutionEnd,
    ExecutionKind,
    ExecutionRecord,
    ExecutionStatus,
    FrameDecision,
    FrameOrigin,
    FrameRecord,
    FrameStory,
    JobRecord,
    JobState,
    Purpose,
    Split,
    WalkerRecord,
    WalkerStatus,
)
from alflow.store.store import Snapshot, Store
from alflow.store.transaction import Transaction

__all__ = [
    "CampaignRecord",
    "CampaignState",
    "CommitteeRecord",
    "CommitteeState",
    "Dataset",
    "DatasetRecord",
    "EventRecord",
    "ExecutionEnd",
    "ExecutionKind",
    "ExecutionRecord",
    "ExecutionStatus",
    "Expression",
    "Finding",
    "FrameDecision",
    "FrameOrigin",
    "FrameRecord",
    "FrameStory",
    "Holder",
    "JobRecord",
    "JobState",
    "Lease",
    "Purpose",
    "Selection",
    "Snapshot",
    "Split",
    "Store",
    "Transaction",
    "WalkerRecord",
    "WalkerStatus",
    "column",
]
