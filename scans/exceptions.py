"""Anticipated refusals, each with a stable ``code``."""


class ScanRefused(Exception):
    """The scan may not run. ``code`` is one of the reason codes that a blocked scan carries too."""

    def __init__(self, code: str, detail: str):
        super().__init__(detail)
        self.code = code
        self.detail = detail


class TooManyScans(ScanRefused):
    """The tenant has as many as it may. ``retry_after``: seconds."""

    def __init__(self, code: str, detail: str, retry_after: int):
        super().__init__(code, detail)
        self.retry_after = retry_after


class LeaseLost(Exception):
    """Another worker has this scan now, or it has ended: whatever is still running here must write nothing more."""


class NotSent(Exception):
    """The workers' queue took no job. The task is in the outbox again; nobody else's would be taken now."""


class TasksHeld(Exception):
    """Somebody else has locked what claims a tenant's tasks. Nothing is wrong; it is tried again soon."""
