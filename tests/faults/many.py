"""Tenants by the hundred: copies of acme with the scans that it has, and ones whose database server says nothing."""

import shutil
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager

import MySQLdb
from django.db import connection, transaction

from tenants.connections import close_tenant_connections
from tenants.context import control_plane, server_plane
from tenants.models import DatabaseServer, RegistryRevision, Tenant, TenantCredential, TenantKey
from tenants.provisioning import PROVISIONERS, sqlite
from tenants.secrets import seal
from tenants.services import _account_name

MANY = {"weight": 100, "running_scans": 100}


def register(slugs: Iterable[str], server: DatabaseServer) -> list[Tenant]:
    """Active ones, without a database."""
    with control_plane(), transaction.atomic():
        tenants = [Tenant(slug=slug, name=slug, server=server, state="active", limits=MANY) for slug in slugs]
        Tenant.objects.bulk_create(tenants)
        for tenant in tenants:
            TenantKey.make(tenant, 1)
            secret = seal("p" * 32, key="runtime", tenant=tenant.pk, field="runtime_password", version=1)
            TenantCredential.objects.create(
                tenant=tenant, account="runtime", user=_account_name(tenant, "runtime", version=1),
                sealed_password=secret,
            )  # fmt: skip
        RegistryRevision.publish(tenants)
    return tenants


def add_copies(first: Tenant, count: int) -> list[Tenant]:
    """On MariaDB with what a dispatcher asks for alone."""
    with control_plane():
        server = DatabaseServer.objects.get(pk=first.server_id)
    tenants = register([f"copy-{number}" for number in range(count)], server)
    if server.engine == "sqlite":
        close_tenant_connections()  # the last one that is closed writes the journal into the file
        for tenant in tenants:
            path = sqlite.path_of(tenant.alias)
            shutil.copy(sqlite.path_of(first.alias), path)
            with closing(sqlite3.connect(path)) as database:
                database.execute("DROP VIEW tenant_identity")
                database.execute(f"CREATE VIEW tenant_identity AS SELECT '{tenant.alias}' AS identity")
        return tenants
    with control_plane():
        accounts = {each.tenant_id: each for each in TenantCredential.objects.filter(account="runtime")}
    with server_plane(server), connection.cursor() as cursor:
        cursor.execute(f"SHOW FULL TABLES FROM {first.alias} WHERE Table_type = 'BASE TABLE'")
        tables = [name for name, _ in cursor.fetchall() if name.startswith("scans_")]
        for tenant in tenants:
            PROVISIONERS["mysql"].create_database(tenant.alias)
            PROVISIONERS["mysql"].create_account(tenant.alias, accounts[tenant.pk])
            for table in tables:
                cursor.execute(f"CREATE TABLE {tenant.alias}.{table} LIKE {first.alias}.{table}")
                cursor.execute(f"INSERT INTO {tenant.alias}.{table} SELECT * FROM {first.alias}.{table}")
    return tenants


@contextmanager
def silent_servers(count: int) -> Iterator[list[DatabaseServer]]:
    """Addresses of which the kernel takes connections, and nobody ever says anything."""
    with ExitStack() as stack:
        found = []
        for number in range(count):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
            with control_plane():
                port = listening.getsockname()[1]
                fields = {"engine": "mysql", "host": "127.0.0.1", "port": port}
                found.append(DatabaseServer.objects.create(name=f"silent-{number}", **fields))
        yield found


@contextmanager
def locked(installation, tenants: Iterable[Tenant]) -> Iterator[None]:
    """Somebody who stands still in a transaction of each, with what a claim of its tasks needs."""
    with ExitStack() as stack:
        for tenant in tenants:
            stack.enter_context(closing(_holder(installation, tenant)))
        yield


def _holder(installation, tenant):
    if installation.engine == "sqlite":
        holder = sqlite3.connect(sqlite.path_of(tenant.alias), isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        return holder
    server = installation.server
    holder = MySQLdb.connect(
        host=server.host, port=server.port, user=server.user, passwd=server.password, database=tenant.alias
    )
    holder.query("SELECT * FROM scans_scancounter FOR UPDATE")
    holder.store_result()
    return holder
