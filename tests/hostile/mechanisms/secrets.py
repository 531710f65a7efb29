"""Secrets, tokens and jobs"""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import django_rq
import jwt
import MySQLdb
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from rest_framework.test import APIClient

from tenants import secrets
from tenants.jobs import TenantJob
from tenants.planes import current
from tenants.registry import registry
from tenants.secrets import unseal
from tenants.tokens import ALGORITHM, TenantRefreshToken, verify
from tests.hostile.mechanism import OPEN, Verdict, mechanism, read
from tests.hostile.mechanisms.mariadb import connected

RUNTIME = (
    "The account is the other's runtime account: no DDL, no other database (1142, 1044), limited "
    "statements and connections. A web or worker process opens no migration account and no administrator's."
)
SIGNING = "Nothing in the process: it verifies and signs for all tenants. Rotating the tenant's key ends it."
ORDINARY = json.dumps({"mechanism": None, "aim": "acme"})  # an order that reads what its plane has
NO_KEY = Verdict("key", "SecretError")


def own_rows(aim=None):
    return sorted(Group.objects.values_list("name", flat=True))


def handle_of(aim):
    if aim.slug is None:
        return connected(settings.DATABASES["control"], aim.database)
    return connected(registry._records[aim.uuid].runtime_database, aim.database)


def ddl_as_migration_account(aim):
    """What the runtime account is refused, the migration account may."""
    cursor = connected(registry._records[aim.uuid].database("migration"), aim.database).cursor()
    cursor.execute("CREATE TABLE scratch (id INT)")
    cursor.execute("DROP TABLE scratch")
    return own_rows(aim)


def control_on_control(aim):
    database = settings.DATABASES["control"]
    read(connected(database, database["NAME"]).cursor())
    return own_rows(aim)


def member(aim):
    return str(get_user_model().objects.order_by("username").first().pk)


@mechanism("the own credentials on another database", mysql=Verdict("account", "1044"))
def own_credentials(aim):
    """A new connection of the driver's, with account and password from `connection.settings_dict`."""
    return read(connected(connection.settings_dict, aim.database).cursor())


@mechanism("another tenant's credentials, from the registry", mysql=OPEN, outer=RUNTIME)
def others_credentials(aim):
    """`registry._records[...].runtime_database`, or `settings.DATABASES["control"]`; a connection of the driver's."""
    return read(handle_of(aim).cursor())


@mechanism("another tenant's credentials, unsealed", mysql=OPEN, aims=("globex",), outer=RUNTIME)
def unsealed(aim):
    """`unseal(...)` with the runtime key, which web and worker processes load."""
    record = registry._records[aim.uuid]
    password = record.sealed_credentials["runtime"].unseal_password()
    return read(connected(record.runtime_database | {"PASSWORD": password}, aim.database).cursor())


@mechanism(
    "DDL with another tenant's credentials",
    mysql=Verdict("account", "1142"),
    aims=("globex",),
    control=ddl_as_migration_account,
    control_door="command",
)
def ddl_with_others(aim):
    """The same, and then `DROP TABLE`."""
    handle_of(aim).cursor().execute("DROP TABLE auth_group")


@mechanism(
    "control's credentials on a tenant's database",
    mysql=Verdict("account", "1044"),
    control=control_on_control,
    aims=("globex",),
)
def control_on_tenant(aim):
    """Control's account is granted control alone."""
    return read(connected(settings.DATABASES["control"], aim.database).cursor())


@mechanism("one tenant's secret opened as another's", NO_KEY, aims=("globex",))
def swapped_secret(aim):
    """A sealed secret opens for its own tenant, field and version alone."""
    sealed = registry._records[aim.uuid].sealed_keys[1].sealed
    key = unseal(sealed, key="runtime", tenant=current().record.snapshot.id, field="signing_key", version=1)
    return own_rows(aim) if aim.slug == "acme" else str(key)


@mechanism("a migration account", mysql=NO_KEY, doors=("view", "job"), aims=("globex",), control_door="command")
def migration_account(aim):
    """`record.database("migration")`: sealed under the fleet key, which the process has given up."""
    return read(connected(registry._records[aim.uuid].database("migration"), aim.database).cursor())


def as_administrator(aim):
    server = registry._records[aim.uuid].server
    password = unseal(
        server.sealed_admin_password, key="fleet", tenant=f"server {server.name}", field="admin_password", version=1
    )
    handle = MySQLdb.connect(host=server.host, port=server.port, user=server.admin_user, passwd=str(password))
    cursor = handle.cursor()
    cursor.execute(f"SELECT name FROM {aim.database}.auth_group")
    return cursor.fetchall()


@mechanism("the server's administrator", mysql=NO_KEY, doors=("view", "job"), aims=("globex",), control_door="command")
def administrator(aim):
    """The sealed password of the server, in each record: under the fleet key too."""
    return as_administrator(aim)


@mechanism(
    "the server's administrator, from an operator's command",
    mysql=OPEN,
    doors=("command",),
    aims=("globex",),
    outer="Nothing: fleet commands hold both keys. They are run by operators, and serve nobody.",
)
def administrator_from_command(aim):
    """The same in a command, which holds the fleet key."""
    return as_administrator(aim)


@mechanism(
    "the fleet key, read again",
    mysql=OPEN,
    doors=("view", "job"),
    aims=("globex",),
    outer="The account of the operating system: run web and workers as one that cannot read the fleet key's file, "
    "and without the variable. The embedded default, one user for all, does not.",
)
def fleet_key_again(aim):
    """`secrets._given_up.clear()`: the process has forgotten the key, and its file is still there."""
    secrets._given_up.clear()
    return as_administrator(aim)


@mechanism(
    "the fleet key where its file is not",
    mysql=NO_KEY,
    doors=("view", "job"),
    aims=("globex",),
    control=as_administrator,
    control_door="command",
)
def fleet_key_elsewhere(aim):
    """The same, in a process that cannot read the file."""
    secrets._given_up.clear()
    variable = settings.BULKHEAD_KEYS["fleet"].variable
    os.environ[f"{variable}_FILE"] = str(aim.path.with_name("not here"))
    os.environ.pop(variable, None)
    return as_administrator(aim)


def groups_by(token):
    client = APIClient(SERVER_NAME="localhost", raise_request_exception=False)
    response = client.get("/api/v1/hostile/", {"order": ORDINARY}, headers={"Authorization": f"Bearer {token}"})
    return response.content.decode()


@mechanism("a token with another's claims", Verdict("token", "InvalidTokenError"), aims=("globex",), keep=member)
def forged_claims(aim):
    """The other's `kid`, tenant and user, signed with the own key."""
    verify(signed(aim, current().record.derived_key(1, "token")))
    return own_rows(aim)


@mechanism(
    "a token made with SECRET_KEY",
    Verdict("token", "InvalidTokenError"),
    aims=("globex",),
    keep=member,
    control=lambda aim: groups_by(signed(aim, signing_key(aim))),
)
def forged_with_secret_key(aim):
    """Signed with the process-wide secret, which signs no token."""
    return verify(signed(aim, settings.SECRET_KEY.encode()))


def signing_key(aim) -> bytes:
    return registry._records[aim.uuid].derived_key(1, "token")


def signed(aim, key: bytes) -> str:
    own = TenantRefreshToken.for_user(get_user_model().objects.first()).access_token
    claims = own.payload | {
        "sub": aim.kept,
        "tenant": aim.uuid.hex,
        "aud": "bulkhead-api",
        "iss": f"bulkhead:{aim.uuid.hex}",
    }
    return jwt.encode(claims, key, ALGORITHM, headers={"kid": f"{aim.uuid.hex}.1"})


@mechanism("a token made with another's key", OPEN, aims=("globex",), keep=member, outer=SIGNING)
def forged_with_others_key(aim):
    """The other's signing key, from the registry, and a token for one of its members, used by HTTP."""
    return groups_by(signed(aim, signing_key(aim)))


def job_of(**options):
    return TenantJob.create(
        "tests.hostile.doors.job",
        [ORDINARY],
        connection=django_rq.get_connection("default"),
        id=str(uuid.uuid4()),
        origin="default",
        timeout=-1,
        **options,
    )


def performed(job):
    """As a worker does it, in a thread of its own; what it read is what its order noted."""
    from tests.hostile.doors import Outcome

    with ThreadPoolExecutor(1) as pool:
        pool.submit(job.perform).result()
    return Outcome.noted[-1]


@mechanism("a job for another tenant", Verdict("job", "WrongTenantError"), aims=("globex",))
def foreign_job(aim):
    """`enqueue(..., meta={"tenant": <the other's>})`."""
    return performed(job_of(meta={"tenant": aim.uuid.hex}))


@mechanism("a job whose tenant is changed", Verdict("job", "ForgedJobError"), aims=("globex",))
def changed_job(aim):
    """The envelope rewritten after it was signed."""
    job = job_of()
    job.meta["tenant"] = aim.uuid.hex
    return performed(job)


@mechanism("a job signed with another's key", OPEN, aims=("globex",), outer=SIGNING)
def job_with_others_key(aim):
    """The envelope signed with the other's key, from the registry."""
    job = job_of()
    record = registry._records[aim.uuid]
    job.meta |= {"tenant": aim.uuid.hex, "key": record.signing_number}
    job.meta["signature"] = job._sign(record)
    return performed(job)


@mechanism("what stands in Redis", Verdict("router"), control=own_rows)
def redis(aim):
    """Every key of it: no row of anybody's stands there."""
    broker = django_rq.get_connection("default")
    return [broker.dump(key) for key in broker.scan_iter("*")]
