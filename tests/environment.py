"""
Loaded before Django's settings (`-p tests.environment`): an installation in a temporary directory of this process.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

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
    "DJANGO_SETTINGS_MODULE": "config.settings",
}
