"""Where a server's socket and files live, who may be there, and what a killed run left behind."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

SOCKET_PATH_LIMIT = 107  # bytes; the kernel's sun_path has 108, one is the terminating NUL
STALE_AFTER = 60  # seconds; a younger directory may belong to a service that is just taking its lock


def fits(socket_path: Path) -> bool:
    return len(os.fsencode(socket_path)) <= SOCKET_PATH_LIMIT


def fallback_directory(directory: Path) -> Path:
    """A short path for the same purpose; derived from the name, so that every process finds the same one."""
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return Path(tempfile.gettempdir(), f"bulkhead-{os.geteuid()}-{digest}")


def lock(directory: Path) -> int | None:
    """A descriptor that holds the directory until it is closed here and in every child that inherited it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def remove_stale_fallbacks() -> None:
    """Remove what servers left in the temporary directory because their parent was killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"bulkhead-{os.geteuid()}-*"):
        try:
            held = None if time.time() - directory.stat().st_mtime < STALE_AFTER else lock(directory)
        except OSError:  # gone meanwhile, or not a directory
            continue
        if held is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(held)
