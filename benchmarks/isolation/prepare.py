"""
An installation with ``acme`` and further tenants, in a process of its own: ``python -m benchmarks.isolation.prepare``.

Tenants after the first are registered without a database, but for those that are asked for: these get the table of the
benchmark alone, with a row of the same key. Leaves ``about.json`` in the home: what plain Django needs to open the same
databases, and what the workers ask for.
"""

import argparse
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from benchmarks.isolation.rows.models import Outbox, Row  # noqa: E402
from tenants.accounts.api_keys import make_key  # noqa: E402
from tenants.accounts.models import User  # noqa: E402
from tenants.context import control_plane, fleet_context, server_plane, tenant_context  # noqa: E402
from tenants.models import RegistryRevision, Tenant, TenantCredential, TenantKey  # noqa: E402
from tenants.provisioning import PROVISIONERS, sqlite  # noqa: E402
from tenants.secrets import seal  # noqa: E402
from tenants.services import _account_name, add_database_server, create_tenant, find_tenant, prepare_home  # noqa: E402
from tenants.tokens import TenantRefreshToken  # noqa: E402

ROWS = 1000


def make_home(server):
    """``server``: host, port, admin_user and admin_password of a MariaDB, or None."""
    prepare_home()
    with control_plane():
        call_command("migrate", verbosity=0)
    if server:
        add_database_server(name="maria", **server)


def make_tenant(slug):
    """In full, with the tables of the benchmarks."""
    create_tenant(slug=slug)
    with control_plane():
        tenant = find_tenant(slug)  # with its server
    with fleet_context(tenant, "migration"), connection.schema_editor() as editor:
        editor.create_model(Row)
        editor.create_model(Outbox)
    return tenant


def make_first():
    tenant = make_tenant("acme")
    with tenant_context(tenant):
        Row.objects.bulk_create(Row(name=f"row {n}", host="shop.example", port=443) for n in range(ROWS))
        user = User.objects.create_user("alice", role="owner")
        _, key = make_key(user, name="benchmark", expires_at=timezone.now() + timedelta(days=1))
        return tenant, {"token": str(TenantRefreshToken.for_user(user).access_token), "api_key": key}


def register(first, count):
    with control_plane(), transaction.atomic():
        tenants = [Tenant(slug=f"t{n}", name=f"t{n}", server=first.server, state="active") for n in range(1, count)]
        Tenant.objects.bulk_create(tenants, batch_size=500)
        keys, credentials = [], []
        for tenant in tenants:
            secret = seal("0" * 64, key="runtime", tenant=tenant.pk, field="signing_key", version=1)
            keys.append(TenantKey(tenant=tenant, number=1, sealed_key=secret))
            if PROVISIONERS[first.server.engine].HAS_ACCOUNTS:
                secret = seal("p" * 32, key="runtime", tenant=tenant.pk, field="runtime_password", version=1)
                user = _account_name(tenant, "runtime", version=1)
                credentials.append(
                    TenantCredential(tenant=tenant, account="runtime", user=user, sealed_password=secret)
                )
        TenantKey.objects.bulk_create(keys, batch_size=500)
        TenantCredential.objects.bulk_create(credentials, batch_size=500)
        RegistryRevision.publish([first])
    return tenants


def make_databases(first, tenants, tables):
    """Copies of the first one's, with these tables alone, and one row in each that has any."""
    provisioner = PROVISIONERS[first.server.engine]
    if not provisioner.HAS_ACCOUNTS:
        copy_files(sqlite.path_of(first.alias), tenants, tables)
        return
    with control_plane():
        credentials = {each.tenant_id: each for each in TenantCredential.objects.filter(account="runtime")}
    with server_plane(first.server), connection.cursor() as cursor:
        for tenant in tenants:
            provisioner.create_database(tenant.alias)
            provisioner.create_account(tenant.alias, credentials[tenant.pk])
            for table in tables:
                cursor.execute(f"CREATE TABLE {tenant.alias}.{table} LIKE {first.alias}.{table}")
                cursor.execute(f"INSERT INTO {tenant.alias}.{table} SELECT * FROM {first.alias}.{table} LIMIT 1")


def copy_files(first, tenants, tables):
    lean = first.with_suffix(".lean")
    with closing(sqlite3.connect(first)) as database:
        database.execute(f"VACUUM INTO '{lean}'")
    with closing(sqlite3.connect(lean, isolation_level=None)) as database:
        found = database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view', 'trigger')")
        for kind, name in sorted(found.fetchall(), key=lambda each: each[0] == "table"):
            if name in tables:
                database.execute(f"DELETE FROM {name} WHERE rowid > (SELECT min(rowid) FROM {name})")
            elif not name.startswith("sqlite_"):
                database.execute(f"DROP {kind} IF EXISTS {name}")
        database.execute("VACUUM")
    for tenant in tenants:
        shutil.copy(lean, sqlite.path_of(tenant.alias))
        with closing(sqlite3.connect(sqlite.path_of(tenant.alias))) as database:
            database.execute(f"CREATE VIEW tenant_identity AS SELECT '{tenant.alias}' AS identity")
    lean.unlink()


def plain_database(tenant, credential):
    if credential is None:
        path = str(sqlite.path_of(tenant.alias))
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "CONN_MAX_AGE": None}
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": tenant.alias,
        "USER": credential.user,
        "PASSWORD": str(credential.unseal_password()),
        "HOST": tenant.server.host,
        "PORT": tenant.server.port,
        "CONN_MAX_AGE": None,
        "OPTIONS": {"charset": "utf8mb4"},
    }


def write_about(tenants, **more):
    with control_plane():
        credentials = {each.tenant_id: each for each in TenantCredential.objects.filter(account="runtime")}
    about = more | {
        "slugs": [tenant.slug for tenant in tenants],
        "plain": {tenant.slug: plain_database(tenant, credentials.get(tenant.pk)) for tenant in tenants},
    }
    (settings.BULKHEAD_HOME / "about.json").write_text(json.dumps(about))


def main():
    make_home(options.server)
    first, alice = make_first()
    others = register(first, options.registered)
    make_databases(first, others[: options.databases - 1], ["rows_row"])
    with tenant_context(first):
        keys = [str(key) for key in Row.objects.order_by("id").values_list("id", flat=True)]
    write_about([first, *others[: options.databases - 1]], keys=keys, **alice)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--registered", type=int, default=1)
parser.add_argument("--databases", type=int, default=1)
parser.add_argument("--server", type=json.loads, help="host, port, admin_user and admin_password as JSON: MariaDB")

if __name__ == "__main__":
    options = parser.parse_args()
    main()
