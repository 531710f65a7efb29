"""``check_isolation``: each kind of crack is made for real, behind the product's back, and is found."""

import contextlib
import hashlib
import io
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from prometheus_client.parser import text_string_to_metric_families

from tenants.backends.sqlite.base import DatabaseWrapper
from tenants.connections import close_tenant_connections
from tenants.context import control_plane, current_tenant, tenant_context
from tenants.facets import Facet, _facets
from tenants.models import DatabaseServer, RegistryRevision, Tenant, TenantCredential, TenantKey
from tenants.planes import current
from tenants.provisioning.sqlite import path_of
from tenants.secrets import give_up_fleet_key, seal
from tenants.services import create_tenant, suspend_tenant
from tests.invariants.work import names
from tests.scans.scanning import ROOT, environment
from tests.tenants.test_identity import administer, identify_as, mend, put_in_place, state_of

ON_MARIADB = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
ON_FILES = pytest.mark.parametrize("_engine", ["sqlite"], ids=["files"], indirect=True)
HASH_OF_PASSWORD = re.compile(r"\*[0-9A-F]{40}")


def run(*options):
    """What it wrote, and the sentence with which it failed or ``None``; as ``manage.py`` does, bound to control."""
    out = io.StringIO()
    try:
        with control_plane():
            call_command("check_isolation", *options, stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), None


def findings():
    """``(kind, about)`` of each crack, and of each thing unchecked. It fails exactly if there are any."""
    text, failure = run("--json")
    report = json.loads(text)
    assert not HASH_OF_PASSWORD.search(text)
    assert report["ok"] == (failure is None) == (not report["cracks"] and not report["unchecked"])
    return [[(each["kind"], each["about"]) for each in report[part]] for part in ("cracks", "unchecked")]


def crack_sentences():
    return [each["sentence"] for each in json.loads(run("--json")[0])["cracks"]]


def at_rest(installation):
    """Everything that a run must leave as it was."""
    close_tenant_connections()
    if installation.engine == "sqlite":
        files = sorted(path for path in installation.home.rglob("*") if path.is_file())
        return {path: (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}
    grants = [installation._sql(f"SHOW GRANTS FOR `{user}`@`{host}`") for user, host in sorted(installation._users)]
    return installation._checksum(), installation._views(), installation._database_names(), grants


# A clean installation


def test_a_clean_installation_has_no_crack_and_is_left_as_it_was(acme, globex, installation):
    suspend_tenant(slug="globex")
    before = at_rest(installation)

    text, failure = run()

    assert failure is None
    assert "2 tenants" in text and text.rstrip().endswith("0 cracks, 0 unchecked.")
    assert at_rest(installation) == before
    assert (state_of("acme"), state_of("globex")) == ("active", "suspended")
    checked = {kind for kind, row in json.loads(run("--json")[0])["kinds"].items() if row["checked"]} - {"facets"}
    own = {"server", "grants"} if installation.engine == "mysql" else {"files"}
    assert checked == {"configuration", "secrets", "identities", "cross-reads", *own}


def test_a_tenant_in_maintenance_is_checked_and_stays_there(acme, globex, installation):
    with control_plane():
        RegistryRevision.publish([acme], state=Tenant.State.MAINTENANCE)
    assert findings() == [[], []]
    administer(installation, acme.alias, *identify_as(f"SELECT '{globex.alias}' AS identity"))

    assert {about for _, about in findings()[0]} == {"acme"}
    assert state_of("acme") == "maintenance"


def test_its_exit_code_tells_a_script(acme, globex):
    def exit_code():
        argv = [sys.executable, "manage.py", "check_isolation"]
        done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        return done.returncode

    assert exit_code() == 0
    with control_plane():
        TenantKey.objects.filter(tenant=acme).delete()
    assert exit_code() == 1


def test_an_installation_for_which_nothing_was_configured_is_clean(tmp_path):
    environment = {"PATH": os.environ["PATH"], "BULKHEAD_HOME": str(tmp_path / "var")}
    for command in (["migrate", "-v0"], ["create_tenant", "acme"], ["create_tenant", "globex"], ["check_isolation"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert ": 0 cracks, 0 unchecked." in done.stdout


# Identities


def be_a_table(alias):
    return ["DROP VIEW tenant_identity", f"CREATE TABLE tenant_identity AS SELECT '{alias}' AS identity"]


def test_an_identity_that_could_be_rewritten_is_a_crack_though_it_is_right(acme, globex, installation):
    administer(installation, acme.alias, *be_a_table(acme.alias))
    try:
        assert findings() == [[("identities", "acme")], []]
        assert state_of("acme") == "active"
    finally:
        administer(installation, acme.alias, "DROP TABLE tenant_identity")
        mend(installation, acme.alias)


@pytest.mark.parametrize("rows", [None, "SELECT 't_0_g1' AS identity"], ids=["missing", "another's"])
def test_a_database_that_does_not_prove_to_be_the_tenants_is_a_crack(acme, globex, installation, rows):
    administer(installation, acme.alias, *identify_as(rows))

    assert {*findings()[0]} == {("identities", "acme")}
    assert state_of("globex") == "active"


def test_a_connection_that_is_open_already_is_not_taken_for_proof(acme, globex, installation, monkeypatch):
    with tenant_context("acme"):
        assert names("acme") == set()
    monkeypatch.setattr("tests.tenants.test_identity.close_tenant_connections", lambda: None)
    administer(installation, acme.alias, *identify_as(f"SELECT '{globex.alias}' AS identity"))

    assert {*findings()[0]} == {("identities", "acme")}
    assert state_of("acme") == "maintenance"


def test_another_tenants_copy_in_its_place_is_a_crack(acme, globex, installation):
    put_in_place(installation, globex.alias, acme.alias)

    assert {*findings()[0]} == {("identities", "acme")}


# Secrets and configuration


def key_of(tenant):
    return TenantKey.objects.filter(tenant=tenant)


def give_the_same_key(acme, globex):
    with tenant_context("globex"):
        from tenants.context import current_record

        key = str(current_record().signing_keys[1])
    place = {"key": "runtime", "tenant": acme.pk, "field": "signing_key", "version": 1}
    with control_plane():
        key_of(acme).update(sealed_key=seal(key, **place))


def exchange_sealed_keys(acme, globex):
    with control_plane():
        key_of(acme).update(sealed_key=key_of(globex).get().sealed_key)


def lose_the_key(acme, globex):
    with control_plane():
        key_of(acme).delete()


@pytest.mark.parametrize(
    ("spoil", "about"), [(give_the_same_key, "globex"), (exchange_sealed_keys, "acme"), (lose_the_key, "acme")]
)
def test_a_signing_key_that_is_not_the_tenants_own_is_a_crack(acme, globex, spoil, about):
    spoil(acme, globex)

    assert findings() == [[("secrets", about)], []]


def test_configuration_that_would_undo_isolation_is_a_crack_even_when_its_check_is_silenced(acme, globex, settings):
    settings.DATABASE_ROUTERS = []
    settings.SILENCED_SYSTEM_CHECKS = ["tenants.E004"]

    assert ("configuration", "settings") in findings()[0]


class Shared(Facet):
    name = "shared"

    def __init__(self, value):
        self.probe = value


def of_nobody():
    return "the same for all"


def of_each():
    return str(current())


def of_members_only():
    return current_tenant().slug


def of_some():
    return current_tenant().slug if current_tenant().slug == "acme" else 1 / 0


@pytest.mark.parametrize(
    ("probe", "cracks", "unchecked"),
    [
        (of_nobody, ["acme", "globex"], []),
        (of_each, [], []),
        (of_members_only, [], []),
        (of_some, [], ["globex"]),
    ],
)
def test_what_is_ambient_and_the_same_for_two_is_a_crack(acme, globex, monkeypatch, probe, cracks, unchecked):
    monkeypatch.setitem(_facets, "shared", Shared(probe))

    assert findings() == [[("facets", about) for about in abouts] for abouts in (cracks, unchecked)]


# What cannot be checked


def test_a_tenant_whose_database_is_gone_stops_nobodys_check(acme, globex, installation):
    gone = create_tenant(slug="gone")
    close_tenant_connections()
    if installation.engine == "sqlite":
        path_of(gone.alias).unlink()
    else:
        installation._sql(f"DROP DATABASE {gone.alias}")

    cracks, unchecked = findings()

    assert ("identities", "gone") in unchecked
    assert {about for _, about in cracks + unchecked} == {"gone"}
    assert json.loads(run("--json")[0])["kinds"]["identities"]["checked"] >= 2
    assert state_of("gone") == "active"


def test_without_the_fleet_key_the_rest_is_checked(acme, globex, installation):
    give_up_fleet_key()

    cracks, unchecked = findings()

    expected = [("secrets", "fleet key"), ("server", "maria")] if installation.engine == "mysql" else []
    assert (cracks, unchecked) == ([], expected)
    assert json.loads(run("--json")[0])["kinds"]["identities"]["checked"] == 2


@contextmanager
def silent_server():
    """It accepts connections and says nothing. Gives the list of those it has accepted."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], accepted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in accepted:
        each.close()


@ON_MARIADB
@pytest.mark.parametrize("has_fleet_key", [True, False])
def test_a_server_that_does_not_answer_is_waited_for_once_and_not_for_each_tenant(acme, globex, has_fleet_key):
    with silent_server() as (port, accepted):
        with control_plane():
            DatabaseServer.objects.update(port=port)
            RegistryRevision.publish([acme, globex])
        if not has_fleet_key:
            give_up_fleet_key()

        cracks, unchecked = findings()

        assert len(accepted) == 1
    assert cracks == []
    assert unchecked[-1] == ("server" if has_fleet_key else "identities", "maria")
    assert (state_of("acme"), state_of("globex")) == ("active", "active")


# The server's side: accounts, grants, what stands beside tables

GRANTS = {
    "another tenant's database": (r"GRANT SELECT ON `{globex}`.* TO {user}", r"REVOKE ALL ON `{globex}`.* FROM {user}"),
    "one table of another's": (
        "GRANT SELECT ON {globex_plain}.scans_target TO {user}",
        "REVOKE ALL ON {globex_plain}.scans_target FROM {user}",
    ),
    "one column of another's": (
        "GRANT SELECT (host) ON {globex_plain}.scans_target TO {user}",
        "REVOKE ALL ON {globex_plain}.scans_target FROM {user}",
    ),
    "its name unescaped": ("GRANT SELECT ON `{acme_plain}`.* TO {user}", "REVOKE ALL ON `{acme_plain}`.* FROM {user}"),
    "more in its own": ("GRANT CREATE ON `{acme}`.* TO {user}", "REVOKE CREATE ON `{acme}`.* FROM {user}"),
    "less in its own": ("REVOKE DELETE ON `{acme}`.* FROM {user}", "GRANT DELETE ON `{acme}`.* TO {user}"),
    "to pass it on": (
        "GRANT USAGE ON `{acme}`.* TO {user} WITH GRANT OPTION",
        "REVOKE GRANT OPTION ON `{acme}`.* FROM {user}",
    ),
    "everything": ("GRANT PROCESS ON *.* TO {user}", "REVOKE PROCESS ON *.* FROM {user}"),
    "a role": ("CREATE ROLE spare; GRANT spare TO {user}", "DROP ROLE spare"),
    "no limit": (
        "ALTER USER {user} WITH MAX_USER_CONNECTIONS 0",
        "ALTER USER {user} WITH MAX_USER_CONNECTIONS 40",
    ),
}


def execute(installation, statements, acme, globex, account="runtime"):
    close_tenant_connections()
    with control_plane():
        user = acme.credentials.get(account=account).user
    names = {
        "acme": acme.alias.replace("_", r"\_"),
        "globex": globex.alias.replace("_", r"\_"),
        "acme_plain": acme.alias,
        "globex_plain": globex.alias,
        "user": f"`{user}`@`%`",
        "name": user,
    }
    for statement in statements.split("; "):
        installation._sql(statement.format(**names))


@ON_MARIADB
@pytest.mark.parametrize("grant", GRANTS)
def test_what_an_account_may_beyond_its_own_database_is_a_crack(acme, globex, installation, grant):
    spoil, mend_it = GRANTS[grant]
    execute(installation, spoil, acme, globex)
    try:
        assert ("grants", "acme") in findings()[0]
        assert {about for _, about in findings()[0]} == {"acme"}
    finally:
        execute(installation, mend_it, acme, globex)
    assert findings() == [[], []]


@ON_MARIADB
def test_what_the_migration_account_may_beyond_its_own_database_is_a_crack_too(acme, globex, installation):
    spoil, mend_it = GRANTS["another tenant's database"]
    execute(installation, spoil, acme, globex, "migration")
    try:
        assert findings() == [[("grants", "acme")], []]
    finally:
        execute(installation, mend_it, acme, globex, "migration")


@ON_MARIADB
def test_what_the_server_gives_to_an_account_is_found_by_reading_too(acme, globex, installation):
    """Globex' neighbour is acme: each account tries to read another's tables."""
    spoil, mend_it = GRANTS["another tenant's database"]
    execute(installation, spoil, acme, globex)
    try:
        assert f"its account reads `{globex.alias}`.django_migrations" in crack_sentences()
        assert findings()[0] == [("grants", "acme"), ("cross-reads", "acme")]
    finally:
        execute(installation, mend_it, acme, globex)


@ON_MARIADB
@pytest.mark.parametrize(
    ("table", "database"), [("tenants_tenantkey", "control_plane"), ("user", "mysql")], ids=["control", "accounts"]
)
def test_an_account_that_reads_control_or_the_servers_accounts_is_a_crack(acme, globex, installation, table, database):
    grant = f"SELECT ON {database}.{table} {{}} {{{{user}}}}"
    execute(installation, "GRANT " + grant.format("TO"), acme, globex)
    try:
        assert findings()[0] == [("grants", "acme"), ("cross-reads", "acme")]
    finally:
        execute(installation, "REVOKE " + grant.format("FROM"), acme, globex)


@ON_MARIADB
def test_an_account_of_control_that_reads_tenants_is_a_crack(acme, globex, installation):
    close_tenant_connections()
    installation._sql("GRANT SELECT ON *.* TO control@`%`")
    try:
        assert findings()[0] == [("cross-reads", "control")] * 2
    finally:
        installation._sql("REVOKE SELECT ON *.* FROM control@`%`")


@ON_MARIADB
@pytest.mark.parametrize("account", ["r7_nobody@`%`", "{name}@localhost"], ids=["nobody's", "from elsewhere"])
def test_an_account_that_is_no_tenants_is_a_crack(acme, globex, installation, account):
    execute(installation, f"CREATE USER {account}", acme, globex)

    assert findings()[0] == [("server", "maria")]


@ON_MARIADB
def test_what_the_server_grants_to_everybody_is_a_crack(acme, globex, installation):
    installation._sql("CREATE USER ''@elsewhere")

    assert findings()[0] == [("server", "maria")]


@ON_MARIADB
def test_a_database_that_is_no_tenants_is_a_warning(acme, globex, installation):
    installation._sql(f"CREATE DATABASE t_{'0' * 32}_g1")

    text, failure = run()

    assert failure is None
    assert f"warning: server: maria: the database t_{'0' * 32}_g1 is no tenant's" in text


@ON_MARIADB
def test_an_account_with_another_password_is_a_crack(acme, globex, installation):
    with control_plane():
        credential = acme.credentials.get(account="runtime")
    execute(installation, "SET PASSWORD FOR {user} = PASSWORD('changed')", acme, globex)
    try:
        assert findings()[0] == [("identities", "acme")]
    finally:
        password = f"SET PASSWORD FOR {{user}} = PASSWORD('{credential.unseal_password()!s}')"
        execute(installation, password, acme, globex)


@ON_MARIADB
def test_sealed_passwords_that_were_exchanged_are_cracks(acme, globex):
    with control_plane():
        mine, theirs = (TenantCredential.objects.get(tenant=each, account="runtime") for each in (acme, globex))
        TenantCredential.objects.filter(pk=mine.pk).update(sealed_password=theirs.sealed_password)
        TenantCredential.objects.filter(pk=theirs.pk).update(sealed_password=mine.sealed_password)

    cracks, unchecked = findings()

    assert cracks == [("secrets", "acme"), ("secrets", "globex")]
    assert unchecked == [("identities", "acme"), ("identities", "globex")]


@ON_MARIADB
def test_two_tenants_with_one_account_and_one_password_are_a_crack(acme, globex):
    with control_plane():
        mine = acme.credentials.get(account="runtime")
        password = seal(
            str(mine.unseal_password()), key="runtime", tenant=globex.pk, field="runtime_password", version=1
        )
        TenantCredential.objects.filter(tenant=globex, account="runtime").update(
            user=mine.user, sealed_password=password
        )

    sentences = crack_sentences()

    assert "it has the same database password as acme" in sentences
    assert f"it has the same account {mine.user} as acme" in sentences
    assert ("identities", "globex") in findings()[0]


OBJECTS = {
    "a view with its maker's rights": (
        "CREATE SQL SECURITY DEFINER VIEW {acme_plain}.peek AS SELECT * FROM {globex_plain}.scans_target",
        "DROP VIEW {acme_plain}.peek",
    ),
    "a routine": (
        "CREATE PROCEDURE {acme_plain}.peek() SELECT * FROM {globex_plain}.scans_target",
        "DROP PROCEDURE {acme_plain}.peek",
    ),
    "a trigger": (
        "CREATE TRIGGER {acme_plain}.peek BEFORE INSERT ON {acme_plain}.scans_target FOR EACH ROW SET @a = 1",
        "DROP TRIGGER {acme_plain}.peek",
    ),
    "an event": (
        "CREATE EVENT {acme_plain}.peek ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        "DROP EVENT {acme_plain}.peek",
    ),
    "a table that is another's": (
        "CREATE TABLE {globex_plain}.part (a INT) ENGINE=MyISAM; "
        "CREATE TABLE {acme_plain}.peek (a INT) ENGINE=MERGE UNION=({globex_plain}.part)",
        "DROP TABLE {acme_plain}.peek; DROP TABLE {globex_plain}.part",
    ),
}


@ON_MARIADB
@pytest.mark.parametrize("name", OBJECTS)
def test_what_works_with_somebody_elses_rights_inside_a_tenants_database_is_a_crack(acme, globex, installation, name):
    spoil, mend_it = OBJECTS[name]
    execute(installation, spoil, acme, globex)
    try:
        assert ("grants", "acme") in findings()[0]
        assert any(" peek, which may reach" in sentence for sentence in crack_sentences())
    finally:
        execute(installation, mend_it, acme, globex)
    assert findings() == [[], []]


# Files


def add_a_name(path):
    os.link(path, path.with_name("copy.sqlite3"))


def lead_elsewhere(path):
    path.rename(path.with_name("elsewhere.sqlite3"))
    path.symlink_to("elsewhere.sqlite3")


SPOILT_FILES = {
    "others may read it": lambda path: path.chmod(0o640),
    "it has a second name": add_a_name,
    "it is a link": lead_elsewhere,
    "its journal may be read": lambda path: (path.with_name(path.name + "-wal").touch(), "")[1],
}


@ON_FILES
@pytest.mark.parametrize("spoil", SPOILT_FILES.values(), ids=SPOILT_FILES)
def test_a_file_that_others_could_open_is_a_crack(acme, globex, spoil):
    close_tenant_connections()
    spoil(path_of(acme.alias))

    assert {*findings()[0]} == {("files", "acme")}


@ON_FILES
def test_a_file_of_another_user_is_a_crack(acme, globex, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    assert ("files", "acme") in findings()[0]


@ON_FILES
def test_a_directory_that_others_could_enter_is_a_crack(acme, globex):
    path_of(acme.alias).parent.chmod(0o750)
    try:
        assert findings()[0] == [("files", "local")]
    finally:
        path_of(acme.alias).parent.chmod(0o700)


@ON_FILES
def test_two_tenants_with_one_file_are_a_crack(acme, globex):
    close_tenant_connections()
    path_of(globex.alias).unlink()
    os.link(path_of(acme.alias), path_of(globex.alias))

    assert "its file is acme's" in crack_sentences()


@ON_FILES
def test_a_file_that_is_no_tenants_is_a_warning(acme, globex):
    path_of(f"t_{'0' * 32}_g1").touch(0o600)

    text, failure = run()

    assert failure is None
    assert f"warning: files: local: the file t_{'0' * 32}_g1.sqlite3 is no tenant's" in text


@ON_FILES
def test_a_connection_that_could_open_other_files_is_a_crack(acme, globex, monkeypatch):
    guarded = DatabaseWrapper.get_new_connection

    def without_limit(self, params):
        handle = guarded(self, params)
        handle.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 10)
        return handle

    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", without_limit)
    close_tenant_connections()

    assert {*findings()[0]} == {("cross-reads", "acme"), ("cross-reads", "globex"), ("cross-reads", "control")}


# Metrics


def metrics(path):
    families = text_string_to_metric_families(path.read_text())
    return {(sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples}


def test_its_result_becomes_a_metric_in_one_step(acme, globex, tmp_path):
    path = tmp_path / "bulkhead.prom"
    assert run("--textfile", str(path))[1] is None
    clean = metrics(path)
    with control_plane():
        key_of(acme).delete()

    assert run("--textfile", str(path))[1] is not None

    cracked = metrics(path)
    ok, tenants = ("bulkhead_isolation_ok",), ("bulkhead_isolation_tenants",)
    assert (clean[ok], cracked[ok], clean[tenants]) == (1, 0, 2)
    assert [each["bulkhead_isolation_cracks", "secrets"] for each in (clean, cracked)] == [0, 1]
    assert cracked["bulkhead_isolation_unchecked", "identities"] == 0
    assert cracked["bulkhead_isolation_timestamp_seconds",] >= clean["bulkhead_isolation_timestamp_seconds",] > 0
    assert "acme" not in path.read_text()
    assert list(tmp_path.iterdir()) == [path]  # no draft is left beside it
