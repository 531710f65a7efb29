"""What a server process is before it answers: without the fleet key, and not started at all where misconfigured."""

import os
import subprocess
import sys

import pytest

from config.env import PROJECT
from tenants.context import control_plane
from tenants.models import TenantCredential
from tenants.secrets import seal
from tests.serving import run

UNSEAL = """
from tenants.context import control_plane
from tenants.models import TenantCredential
with control_plane():
    print(len(TenantCredential.objects.get(version=9).unseal_password()))
"""
WITHOUT_SERVER = "import django; django.setup()"
WRONG = {
    "REDIS_URL": "http://:canary-redis@127.0.0.1/",
    "DATABASE_URL": "postgres://u:canary-database@127.0.0.1/x",
    "SECRET_KEY": "canary-short",
    "BULKHEAD_LEASE_SECONDS": "0",
    "BULKHEAD_DEBUG": "perhaps",
    "BULKHEAD_RUNTIME_KEY": "canary-runtime",
}


@pytest.fixture
def migration_credential(acme):
    with control_plane():
        sealed = seal("secret", key="fleet", tenant=acme.pk, field="migration_password", version=9)
        TenantCredential.objects.create(
            tenant=acme, account="migration", version=9, user="m9_acme", sealed_password=sealed
        )


@pytest.mark.parametrize("server", ["config.wsgi", "config.asgi"])
def test_a_process_that_serves_members_cannot_unseal_a_migration_account(installation, migration_credential, server):
    fleet_command = run(installation, "-c", WITHOUT_SERVER + UNSEAL)
    web = run(installation, "-c", f"import {server}" + UNSEAL)

    assert (fleet_command.returncode, fleet_command.stdout) == (0, "6\n")
    assert (web.returncode, web.stdout) == (1, "")
    assert "SecretError: This process serves members and does not load the fleet key." in web.stderr


def test_under_asgi_no_connection_is_kept(installation):
    code = (
        "import config.asgi; from django.conf import settings as s; print(s.BULKHEAD_CONNECTION_MAX_AGE, s.DATABASES)"
    )
    maximum = run(installation, "-c", code)

    assert maximum.stdout.startswith("0 ")
    assert "CONN_MAX_AGE': 6" not in maximum.stdout


def test_a_misconfigured_server_does_not_start_and_lists_every_fault_and_no_secret(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", "127.0.0.1:0", "--no-control-socket"],
        cwd=PROJECT, env=os.environ | WRONG | {"BULKHEAD_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert [name for name in WRONG if f"  - {name}:" not in done.stderr] == []
    assert "canary" not in done.stdout + done.stderr
