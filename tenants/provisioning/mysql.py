"""
MariaDB and MySQL: a database and two accounts per tenant, each account granted that database alone.

The functions run under ``server_plane``. DDL commits by itself, so each is safe to run again after being cut off.
"""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection

from tenants.audit.triggers import MYSQL_REFUSAL
from tenants.exceptions import ProvisioningError
from tenants.secrets import unseal

HAS_ACCOUNTS = True
COLLATION = "utf8mb4_unicode_ci"
PRIVILEGES = {
    "runtime": "SELECT, INSERT, UPDATE, DELETE",
    "migration": "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, TRIGGER",
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
NO_SUCH_GRANT = 1141
REFUSED = (1044, 1045, 1142)  # database, log-in, table
UNREACHABLE = (1040, 1053, 2002, 2003, 2005, 2006, 2013)  # the server's fault, and so every tenant's on it
ACCOUNT_OF_OURS = re.compile(r"[rm][0-9]+_[0-9a-z]+")
DATABASE_OF_OURS = re.compile(r"t_[0-9a-f]{32}_g[0-9]+")
# What may stand beside tables: all of these work with somebody else's rights, or reach another database by themselves.
# A trigger that does nothing but refuse reaches nothing: the audit's.
BESIDE_TABLES = """
    SELECT COALESCE(CONCAT(ENGINE, ' table'), 'view'), TABLE_NAME FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = %s AND COALESCE(ENGINE, '') <> 'InnoDB' AND TABLE_NAME <> 'tenant_identity'
    UNION ALL SELECT 'trigger', TRIGGER_NAME FROM information_schema.TRIGGERS
        WHERE TRIGGER_SCHEMA = %s AND ACTION_STATEMENT <> %s
    UNION ALL SELECT 'routine', ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s
    UNION ALL SELECT 'event', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s
"""


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
    with connection.cursor() as cursor:
        cursor.execute(f"DROP USER IF EXISTS `{user}`@`%`")
        cursor.execute(f"CREATE USER `{user}`@`%%` IDENTIFIED BY %s WITH {limits}", [str(credential.unseal_password())])
        cursor.execute(f"GRANT {PRIVILEGES[account]} ON `{_pattern(alias)}`.* TO `{user}`@`%`")


def _pattern(alias: str) -> str:
    """In a grant `_` and `%` are wildcards: unescaped, t_1 would open tX1 too."""
    return alias.replace("\\", "\\\\").replace("_", r"\_").replace("%", r"\%")


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


# What check_isolation asks; nothing here changes anything.


def orphans(aliases: set[str], users: set[str]) -> tuple[list[str], list[str]]:
    """Accounts and databases that are named like tenants' and are none of these."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT User, Host FROM mysql.user")
        accounts = [(str(user), str(host)) for user, host in cursor.fetchall()]
        cursor.execute("SHOW DATABASES")
        databases = [name for (name,) in cursor.fetchall()]
    strays = [
        each for each in accounts if ACCOUNT_OF_OURS.fullmatch(each[0]) and (each[0] not in users or each[1] != "%")
    ]
    return (
        sorted(f"{user}@{host}" for user, host in strays),
        sorted(name for name in databases if DATABASE_OF_OURS.fullmatch(name) and name not in aliases),
    )


def account_faults(alias: str, credential) -> Iterator[str]:
    """Each thing that an account may beyond what ``create_account`` grants it, and each that it lacks."""
    account, user = credential.account, credential.user
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"SHOW GRANTS FOR `{user}`@`%`")
        except DatabaseError as error:
            if error.args[0] != NO_SUCH_GRANT:
                raise
            yield f"its {account} account {user} is not there"
            return
        grants = {row[0] for row in cursor.fetchall()}
    limits = {grant for grant in grants if re.fullmatch(_usage(account, user), grant)}
    own = re.compile(rf"GRANT (.+) ON `{re.escape(_pattern(alias))}`\.\* TO `{user}`@`%`")
    expected = set(PRIVILEGES[account].split(", "))
    granted = {grant for grant in grants if (match := own.fullmatch(grant)) and set(match[1].split(", ")) == expected}
    if not limits:
        yield f"its {account} account {user} lacks its password or its limits, or has privileges on everything"
    if not granted:
        yield f"its {account} account {user} is not granted exactly {PRIVILEGES[account]} on {alias}"
    for grant in sorted(grants - limits - granted):
        # Without the password's hash.
        yield f"its {account} account {user} has another grant: {grant.split(' IDENTIFIED ')[0]}"


def _usage(account: str, user: str) -> str:
    """The first line of SHOW GRANTS, as a pattern; MySQL shows neither password nor limits in it."""
    start = rf"GRANT USAGE ON \*\.\* TO `{user}`@`%`"
    if not connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        return start
    limits = f"MAX_USER_CONNECTIONS {MAX_CONNECTIONS[account]} MAX_STATEMENT_TIME {MAX_STATEMENT_SECONDS[account]}"
    return rf"{start} IDENTIFIED BY PASSWORD '\*[0-9A-F]{{40}}'( REQUIRE (SSL|X509))? WITH {limits}\.0+"


def identity_faults(alias: str) -> Iterator[str]:
    """Whether a database's identity is the view that was made: a table could be rewritten."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT VIEW_DEFINITION FROM information_schema.VIEWS "
            "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = 'tenant_identity'",
            [alias],
        )
        if cursor.fetchall() != ((f"select '{alias}' AS `identity`",),):
            yield f"its tenant_identity is not the view that says {alias}"


def objects_beside_tables(alias: str) -> Iterator[str]:
    """The ways around an account's grants that stand in its own database."""
    with connection.cursor() as cursor:
        cursor.execute(BESIDE_TABLES, [alias, alias, MYSQL_REFUSAL, alias, alias])
        for what, name in cursor.fetchall():
            yield f"its database has a {what} {name}, which may reach what the tenant's accounts cannot"


def cross_read(handle, neighbour: str | None, control: str | None) -> Iterator[str | None]:
    """
    For each thing that the server must refuse to the account of ``handle``, the driver's: ``None``, or what it did
    instead. ``neighbour`` is another tenant's database, ``control`` the control database.
    """
    tables = {
        f"`{neighbour}`.django_migrations": neighbour,
        f"`{control}`.tenants_tenantkey": control,
        "mysql.user": "mysql",
    }
    for table in (table for table, database in tables.items() if database):
        cursor = handle.cursor()
        try:
            cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 - names of our own
            yield f"its account reads {table}"
        except handle.Error as error:
            if error.args[0] in UNREACHABLE:
                raise
            yield None if error.args[0] in REFUSED else f"its account may look for {table}: {error}"
        finally:
            cursor.close()
