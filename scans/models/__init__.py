"""What a tenant tests, what it may test, and what was found. All of it lives in the tenant's own database."""

from scans.models.findings import SEVERITIES, Finding, Occurrence
from scans.models.targets import INTRUSIVENESS, Authorization, ScanProfile, Target
from scans.models.work import IdempotencyKey, Scan, ScanCounter, ScanEvent, ScanRun, TaskQueue

__all__ = [
    "INTRUSIVENESS",
    "SEVERITIES",
    "Authorization",
    "Finding",
    "IdempotencyKey",
    "Occurrence",
    "Scan",
    "ScanCounter",
    "ScanEvent",
    "ScanProfile",
    "ScanRun",
    "Target",
    "TaskQueue",
]
