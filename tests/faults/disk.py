"""A disk that can be full for some processes, and for nobody else: no mount, and no privilege, is needed for it."""

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tenants.embedded import MariaDB


class Disk:
    """``environment`` is for processes that are on it."""

    def __enter__(self) -> "Disk":
        self._directory = Path(tempfile.mkdtemp(prefix="bulkhead-disk-"))
        self._directory.chmod(0o755)  # MariaDB runs as somebody else
        library, self._sign = self._directory / "disk.so", self._directory / "full"
        source = Path(__file__).with_name("disk.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "FAULTS_DISK_FULL": str(self._sign)}
        return self

    def __exit__(self, *error) -> None:
        shutil.rmtree(self._directory)

    @contextmanager
    def full(self):
        self._sign.touch()
        try:
            yield
        finally:
            self._sign.unlink()

    def mariadb(self, directory: Path) -> MariaDB:
        """A server on it."""
        server = MariaDB(directory)
        server._environment = lambda: MariaDB._environment(server) | self.environment
        return server
