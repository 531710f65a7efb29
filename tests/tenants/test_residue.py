"""
What is not stopped, shown: docs/explanation/threat-model.md says so, and would be wrong if one of these went red.
"""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import django_rq
import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from rq import Worker
from rq.command import send_shutdown_command

from scans.engines.runner import CHILD
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, current_record, tenant_context
from tenants.provisioning.sqlite import path_of
from tenants.secrets import give_up_fleet_key
from tests.installation import PASSWORD
from tests.invariants.work import add, names
from tests.scans.scanning import start, wait_until
from tests.tenants.browsing import COOKIES, is_in, log_in
from tests.tenants.test_check_isolation import ON_MARIADB
from tests.tenants.test_identity import mend, put_in_place, state_of
from tests.tenants.test_login import log_in as ask_for_tokens
from tests.tenants.trying import let_pass


def test_the_runtime_key_and_control_open_every_tenants_runtime_secrets(acme, globex, installation):
    """So has each web process and worker, whichever tenants it has served."""
    give_up_fleet_key()

    for slug in ("acme", "globex"):
        with tenant_context(slug):
            assert len(current_record().signing_keys[1]) == 64
            if installation.engine == "mysql":
                assert len(current_record().runtime_database["PASSWORD"]) >= 32


def test_code_in_an_engines_child_reads_what_its_user_may(tmp_path):
    secret = tmp_path / "runtime.key"
    secret.touch(mode=0o600)
    secret.write_text("canary")
    confined = (
        f"import os, runpy; child = runpy.run_path({str(CHILD)!r}, run_name='child');"
        f"child['confine'](os.getppid(), 1, {256 * 1024**2}); print(open({str(secret)!r}).read())"
    )

    done = subprocess.run([sys.executable, "-I", "-S", "-c", confined], env={}, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("canary\n", "")


@pytest.mark.parametrize("site", ["/t/acme/", "/operator/"])
def test_a_session_key_in_a_fresh_copy_of_a_database_opens_that_session(acme, globex, site):
    log_in(Client(), site)
    with control_plane() if site == "/operator/" else tenant_context("acme"):
        copied = Session.objects.get().session_key

    thief = Client()
    thief.cookies[f"sessionid_{COOKIES[site]}"] = copied

    assert is_in(thief, site)


def read_as_administrator(installation, alias, table):
    close_tenant_connections()
    if installation.engine == "mysql":
        return [name for (name,) in installation._sql(f"SELECT name FROM {alias}.{table}")]
    with closing(sqlite3.connect(path_of(alias))) as database:
        return [name for (name,) in database.execute(f"SELECT name FROM {table}")]


def test_whoever_administers_a_server_or_owns_its_files_reads_every_tenant_in_clear(acme, globex, installation):
    for slug in ("acme", "globex"):
        with tenant_context(slug):
            add(f"row of {slug}")

    assert "row of acme" in read_as_administrator(installation, acme.alias, "scans_scanprofile")
    assert "row of globex" in read_as_administrator(installation, globex.alias, "scans_scanprofile")


def test_whoever_administers_a_server_or_owns_its_files_can_forge_an_identity(acme, globex, installation):
    with tenant_context("globex"):
        add("row of globex")
    put_in_place(installation, globex.alias, acme.alias)
    mend(installation, acme.alias)

    assert names("acme") == {"row of globex"}
    assert state_of("acme") == "active"


@ON_MARIADB
def test_nothing_here_asks_mariadb_for_an_encrypted_connection(acme):
    with tenant_context("acme"):
        options = connection.get_connection_params()

    assert [name for name in options if "ssl" in name or "tls" in name] == []


def test_whoever_goes_on_trying_keeps_a_member_from_logging_in_anew(acme):
    for _ in range(5):
        assert ask_for_tokens("acme", "alice", "not the right password").status_code == 401
    for _ in range(3):
        let_pass("acme", seconds=900)  # and again the other one is first
        assert ask_for_tokens("acme", "alice", "not the right password").status_code == 401
        assert ask_for_tokens("acme", "alice", PASSWORD).status_code == 429


def test_whoever_writes_to_redis_can_tell_a_worker_to_end(installation):
    """RQ's own command channel: it runs nothing, and the next worker goes on."""
    broker = django_rq.get_connection("default")
    process = start("worker")
    too_late = threading.Timer(60, process.kill)
    too_late.start()
    try:
        # It listens to commands before it handles the signal that this one sends.
        [worker] = wait_until(lambda: [each for each in Worker.all(connection=broker) if each.get_state() == "idle"])
        send_shutdown_command(broker, worker.name)

        assert any("warm shut down requested" in line for line in process.stdout)
    finally:
        too_late.cancel()
        process.kill()
        process.communicate()
