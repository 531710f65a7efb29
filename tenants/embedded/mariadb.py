import os
import pwd
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from .service import Service, ServiceUnavailable

# `loose-`: later versions may drop these without harm.
STORAGE = [
    "--innodb-data-file-path=ibdata1:10M:autoextend",
    "--innodb-log-file-size=32M",
    "--innodb-buffer-pool-size=64M",
    "--innodb-doublewrite=0",
    "--loose-innodb-flush-method=nosync",
    "--loose-debug-no-sync",
]
SERVER = [
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-fast-shutdown=2",  # as after a crash; the data goes anyway
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=8M",
    "--performance-schema=OFF",
    "--skip-log-bin",
    "--max-connections=200",
    "--skip-name-resolve",
    "--local-infile=0",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_520_ci",
    "--transaction-isolation=READ-COMMITTED",
]
# Runs before the first connection is accepted. mariadb.sys cannot log in and owns the views of `sys`.
FIRST_STATEMENTS = """\
DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';
DELETE FROM mysql.db;
DELETE FROM mysql.proxies_priv;
FLUSH PRIVILEGES;
DROP DATABASE IF EXISTS test;
CREATE USER '{user}'@'%' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION;
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _service_account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    return accounts.get("mysql") or accounts["nobody"]


class MariaDB(Service):
    """
    MariaDB on 127.0.0.1 and a Unix socket, with one account: an administrator with a random password.

    As root it runs as the user ``mysql``, else ``nobody``; and when that user may not enter ``directory``, in
    the temporary directory.
    """

    label = "MariaDB"
    remedy = "apt-get install mariadb-server-core mariadb-client-core"
    socket_name = "mariadb.sock"
    host = "127.0.0.1"
    user = "bulkhead"

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__(directory)
        self.account = _service_account()
        self.password = secrets.token_urlsafe(24)
        self.port = 0  # known once it is started

    @property
    def socket(self) -> Path:
        return self.run_directory / self.socket_name

    @property
    def url(self) -> str:
        return f"mysql://{self.user}:{self.password}@{self.host}:{self.port}/"

    def start(self) -> Self:
        tries = 3
        while True:
            try:
                return super().start()
            except ServiceUnavailable as error:  # another program took the port between our look and the bind
                tries -= 1
                if not tries or "Address already in use" not in str(error):
                    raise

    def _find_program(self) -> str:
        self._client = self._require("mariadb")
        self._installer = self._require("mariadb-install-db")
        return self._require("mariadbd")

    def _preferred_directory(self) -> Path:
        return self.directory / "mariadb"

    def _prepare(self) -> list[str]:
        self._remove_files()
        data, script = self.run_directory / "data", self.run_directory / "first.sql"
        script.touch(mode=0o600)
        script.write_text(FIRST_STATEMENTS.format(user=self.user, password=self.password))
        if self.account:
            for path in (self.run_directory, script):
                os.chown(path, self.account.pw_uid, self.account.pw_gid)
        self._install(data)
        self.port = _free_port()
        return [
            "--no-defaults",
            *STORAGE,
            *SERVER,
            f"--datadir={data}",
            f"--tmpdir={self.run_directory}",
            f"--init-file={script}",
            f"--socket={self.socket}",
            f"--pid-file={self.run_directory / 'mariadb.pid'}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
        ]

    def _install(self, data: Path) -> None:
        command = [self._installer, "--no-defaults", *STORAGE, f"--datadir={data}", f"--tmpdir={self.run_directory}"]
        done = subprocess.run(  # noqa: S603 - the command is ours
            self._as_service([*command, "--skip-name-resolve"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=self._environment(),
            check=False,
        )
        if done.returncode != 0:
            raise self._unavailable(f"mariadb-install-db failed:\n{done.stdout[-4000:]}")

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        # Over TCP with our password: whoever else may listen on that port does not know it.
        address = ["--protocol=TCP", f"--host={self.host}", f"--port={self.port}", f"--user={self.user}"]
        command = [self._client, "--no-defaults", *address, "--connect-timeout=5", "--execute=SELECT 1"]
        environment = {**self._environment(), "MYSQL_PWD": self.password}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)  # noqa: S603 - ours too
        return done.returncode == 0

    def _remove_files(self) -> None:
        for path in self.run_directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
