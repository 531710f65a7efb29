"""
MariaDB and MySQL: a database and two accounts per tenant, each account granted that database alone.

The functions run under ``server_plane``. DDL commits by itself, so each is safe to run again after being cut off.
"""

from typing import Any

from django.conf import settings
from django.db import connection

from tenants.exceptions import ProvisioningError
from tenants.secrets import unseal

HAS_ACCOUNTS = True
COLLATION = "utf8mb4_unicode_ci"
PRIVILEGES = {
    "runtime": "SELECT, INSERT, UPDATE, DELETE",
    "migration": "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES",
}
MAX_CONNECTIONS = {"runtime": 40, "migration": 4}  # beyond it 1226 for this tenant; without it 1040 for everybody
# Whatever stands there for nobody in particular holds for each tenant's account too.
GRANTS_TO_EVERYBODY = """
    SELECT (SELECT COUNT(*) FROM mysql.db WHERE User IN ('', 'PUBLIC'))
         + (SELECT COUNT(*) FROM mysql.tables_priv WHERE User IN ('', 'PUBLIC'))
         + (SELECT COUNT(*) FROM mysql.columns_priv WHERE User IN ('', 'PUBLIC'))
         + (SELECT COUNT(*) FROM mysql.procs_priv WHERE User IN ('', 'PUBLIC'))
"""
MAX_STATEMENT_SECONDS = {"runtime": 4, "migration": 3600}  # runtime: less than the client waits, so the server ends it


def database_settings(server, alias: str, credential) -> dict[str, Any]:
    return _settings(server, alias, credential.user, credential.unseal_password()) | {
        "CONN_MAX_AGE": settings.BULKHEAD_CONNECTION_MAX_AGE
    }


def admin_settings(server) -> dict[str, Any]:
    password = unseal(
        server.sealed_admin_password, key="fleet", tenant=f"server {server.name}", field="admin_password", version=1
    )
    return _settings(server, "", server.admin_user, password)


def _settings(server, name: str, user: str, password: str) -> dict[str, Any]:
    return {
        "ENGINE": "tenants.backends.mysql",
        "NAME": name,
        "USER": user,
        "PASSWORD": password,
        "HOST": server.host,
        "PORT": server.port or "",
        "CONN_HEALTH_CHECKS": True,
    }


def create_database(alias: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{alias}` CHARACTER SET utf8mb4 COLLATE {COLLATION}")
        # By the administrator: the runtime account cannot change it, the migration account can only remove it.
        cursor.execute(
            f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW `{alias}`.tenant_identity AS SELECT '{alias}' AS identity"
        )


def create_account(alias: str, credential) -> None:
    """An account with its limits and one grant. One of that name is dropped first: it may have another password."""
    account, user = credential.account, credential.user
    limits = f"MAX_USER_CONNECTIONS {MAX_CONNECTIONS[account]}"
    if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        limits += f" MAX_STATEMENT_TIME {MAX_STATEMENT_SECONDS[account]}"
    # In a grant `_` and `%` are wildcards: unescaped, t_1 would open tX1 too.
    pattern = alias.replace("\\", "\\\\").replace("_", r"\_").replace("%", r"\%")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP USER IF EXISTS `{user}`@`%`")
        cursor.execute(f"CREATE USER `{user}`@`%%` IDENTIFIED BY %s WITH {limits}", [str(credential.unseal_password())])
        cursor.execute(f"GRANT {PRIVILEGES[account]} ON `{pattern}`.* TO `{user}`@`%`")


def require_safe_server() -> None:
    """Raises ``ProvisioningError`` for a server on which any account could read or write what is not its own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM mysql.user WHERE User = ''")
        if cursor.fetchone()[0]:
            raise ProvisioningError("The server has anonymous accounts: run mariadb-secure-installation first.")
        cursor.execute(GRANTS_TO_EVERYBODY)
        grants = cursor.fetchone()[0]
        cursor.execute("SELECT * FROM mysql.user WHERE User = 'PUBLIC'")
        names = [column[0] for column in cursor.description]
        for row in cursor.fetchall():
            grants += sum(name.endswith("_priv") and value == "Y" for name, value in zip(names, row, strict=True))
        if grants:
            raise ProvisioningError(
                "The server grants something to any account (a test database, PUBLIC): revoke that first."
            )


def drop_database(alias: str, users: list[str]) -> None:
    with connection.cursor() as cursor:
        for user in users:
            cursor.execute(f"DROP USER IF EXISTS `{user}`@`%`")
        cursor.execute(f"DROP DATABASE IF EXISTS `{alias}`")
