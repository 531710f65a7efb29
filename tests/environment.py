"""
Loaded before Django's settings (`-p tests.environment`): an installation in a temporary directory of this process.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from django.conf import settings  # lazy: read after what is set here

_memory = Path("/dev/shm")
HOME = Path(tempfile.mkdtemp(prefix="bulkhead-test-", dir=_memory if os.access(_memory, os.W_OK) else None))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for name in list(os.environ):
    if name.startswith("BULKHEAD_") or name.removesuffix("_FILE") in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY"):
        del os.environ[name]
os.environ |= {
    "BULKHEAD_HOME": str(HOME),
    "BULKHEAD_ALLOW_LOOPBACK_TARGETS": "true",
    "BULKHEAD_LEASE_SECONDS": "2",
    "BULKHEAD_REQUESTS_PER_MINUTE": "0",  # tests ask as fast as they can: see tests/config/test_throttles.py
    "BULKHEAD_THREADS": "256",  # tests ask at once as often as they like: see tests/tenants/test_bulkheads.py
    "BULKHEAD_METRICS_TOKEN": "what-the-scraper-of-these-tests-holds",
    "BULKHEAD_STREAM_SECONDS": "0",  # a look and no more, where a stream is only one of many routes
    "DJANGO_SETTINGS_MODULE": "config.settings",
}


def pytest_sessionstart(session):
    """Tests commit, and delete what they find: nothing but this process's own installation may be at hand."""
    home = str(HOME)
    control = settings.DATABASES["control"]
    used = {
        "BULKHEAD_HOME": str(settings.BULKHEAD_HOME),
        "the control database": str(control["NAME"]),
        **{f"Redis ({name})": queue["URL"].removeprefix("unix://") for name, queue in settings.RQ_QUEUES.items()},
    }
    foreign = [f"{what} is {where}" for what, where in used.items() if not Path(where).is_relative_to(home)]
    if foreign or control.get("HOST"):
        raise pytest.UsageError(f"Tests run in {home} alone, but {', '.join(foreign) or 'the database is a server'}.")
