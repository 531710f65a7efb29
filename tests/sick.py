"""Tenants on a MariaDB of their own beside the installation's, and what can be wrong with one of them."""

import os
import signal
import time
from contextlib import contextmanager

import MySQLdb
import pytest
from django.contrib.auth import get_user_model

from tenants import breakers
from tenants.context import control_plane, tenant_context
from tenants.embedded import MariaDB
from tenants.registry import registry
from tenants.services import add_database_server, create_tenant
from tests.conftest import api_client
from tests.installation import PASSWORD


@pytest.fixture(scope="module")
def sick_server(tmp_path_factory):
    with MariaDB(tmp_path_factory.mktemp("sick")) as server:
        yield server


@pytest.fixture
def sick(installation, sick_server):
    with Sick(sick_server) as sick:
        yield sick


class Sick:
    """Tenants on the sick server, with a member each."""

    def __init__(self, server):
        self.server = server
        self.address = (server.host, str(server.port))
        self.admin = MySQLdb.connect(
            host=server.host, port=server.port, user=server.user, passwd=server.password, autocommit=True
        )

    def __enter__(self):
        server = self.server
        with control_plane():
            add_database_server(
                name="ward", host=server.host, port=server.port, admin_user=server.user, admin_password=server.password
            )
        return self

    def __exit__(self, *error):
        self.admin.close()
        breakers.start_over()

    def add(self, slug):
        tenant = create_tenant(slug=slug, server="ward")
        with tenant_context(slug):
            user = get_user_model().objects.create_user("ada", PASSWORD, role="owner")
        return tenant, api_client(slug, user)

    def sql(self, statement):
        with self.admin.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    @contextmanager
    def stopped(self):
        os.kill(self.server.process.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self.server.process.pid, os.WSTOPPED)  # until then it answers
            yield
        finally:
            os.kill(self.server.process.pid, signal.SIGCONT)


def timed(act):
    began_at = time.monotonic()
    answer = act()
    return answer, time.monotonic() - began_at


def wait_until(is_so, seconds=60):
    ends_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_at, "It has not come about."
        time.sleep(0.05)


def drop(sick, tenant):
    sick.sql(f"DROP DATABASE {tenant.alias}")


def change_password(sick, tenant):
    user = registry.get(tenant.slug).runtime_database["USER"]
    sick.sql(f"ALTER USER `{user}`@`%` IDENTIFIED BY 'another'")


def limit_connections(sick, tenant, number):
    user = registry.get(tenant.slug).runtime_database["USER"]
    sick.sql(f"GRANT USAGE ON *.* TO `{user}`@`%` WITH MAX_USER_CONNECTIONS {number}")


def connect_as(tenant):
    """A connection more of the tenant's own account."""
    database = registry.get(tenant.slug).runtime_database
    return MySQLdb.connect(
        host=database["HOST"],
        port=int(database["PORT"]),
        user=database["USER"],
        passwd=str(database["PASSWORD"]),
        database=database["NAME"],
    )


def use_up_connections(sick, tenant):
    limit_connections(sick, tenant, 1)
    return connect_as(tenant)


TROUBLES = {
    "its database is dropped": (drop, "Unknown database"),
    "its password is another": (change_password, "Access denied"),
    "it has too many connections": (use_up_connections, "max_user_connections"),
}
