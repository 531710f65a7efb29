"""Secrets at rest: sealed to their place, under two keys, and shown nowhere."""

import base64
import copy
import io
import logging
import os
import pickle
import stat
import uuid
from concurrent.futures import ThreadPoolExecutor
from pprint import pformat

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from tenants import secrets
from tenants.context import control_plane, current_record, fleet_context, tenant_context
from tenants.exceptions import SecretError
from tenants.models import TenantCredential, TenantKey
from tenants.planes import require_bound
from tenants.secrets import KeySource, Secret, give_up_fleet_key, key_fault, make_keys, seal, unseal
from tests.invariants.work import run_python

PLAIN = "correct horse battery staple"
PLACE = {"key": "runtime", "tenant": uuid.UUID(int=1), "field": "signing_key", "version": 1}


@pytest.fixture
def keys(installation, settings, tmp_path):
    """Two keys of a test's own."""
    settings.BULKHEAD_HOME = tmp_path
    settings.BULKHEAD_KEYS = {
        name: KeySource(f"BULKHEAD_{name.upper()}_KEY", tmp_path / "keys" / f"{name}.key")
        for name in ("runtime", "fleet")
    }
    before = dict(secrets._keys)
    secrets._keys.clear()
    make_keys()
    yield tmp_path / "keys"
    secrets._keys.clear()
    secrets._keys.update(before)


def test_what_was_sealed_opens_for_its_own_place(keys):
    sealed = seal(PLAIN, **PLACE)
    assert PLAIN not in sealed
    assert sealed != seal(PLAIN, **PLACE)
    assert unseal(sealed, **PLACE) == PLAIN


@pytest.mark.parametrize(
    "other", [{"tenant": uuid.UUID(int=2)}, {"field": "runtime_password"}, {"version": 2}, {"key": "fleet"}], ids=str
)
def test_it_opens_for_no_other_tenant_field_version_or_key(keys, other):
    with pytest.raises(SecretError):
        unseal(seal(PLAIN, **PLACE), **PLACE | other)
    renamed = seal(PLAIN, **PLACE).replace(".runtime.", ".fleet.")
    with pytest.raises(SecretError):
        unseal(renamed, **PLACE | {"key": "fleet"})


@pytest.mark.parametrize("length", range(3))
def test_no_changed_byte_and_no_part_of_it_opens(keys, length):
    sealed = seal("x" * length, **PLACE)
    changed = [
        sealed[:place] + chr(ord(sealed[place]) ^ 1 << bit) + sealed[place + 1 :]
        for place in range(len(sealed))
        for bit in range(8)
    ]
    cut = [sealed[:length] for length in range(len(sealed))]
    other = seal("x" * length, **PLACE)
    mixed = ".".join(sealed.split(".")[:3] + other.split(".")[3:])
    for wrong in (*changed, *cut, mixed, sealed + "=", sealed + "\n", PLAIN, "", "bh1.runtime.."):
        with pytest.raises(SecretError):
            unseal(wrong, **PLACE)


def test_it_opens_under_no_other_key(keys):
    sealed = seal(PLAIN, **PLACE)
    (keys / "runtime.key").unlink()
    secrets._keys.clear()
    with pytest.raises(SecretError, match="There is no runtime key"):
        unseal(sealed, **PLACE)
    make_keys()
    with pytest.raises(SecretError, match="does not open"):
        unseal(sealed, **PLACE)


def test_every_secret_in_the_databases_is_sealed_and_none_can_be_exchanged(acme, globex, installation):
    with control_plane():
        rows = [*TenantKey.objects.all(), *TenantCredential.objects.all()]
        sealed = [getattr(row, "sealed_key", None) or row.sealed_password for row in rows]
        assert len(sealed) == (6 if installation.engine == "mysql" else 2)
        assert all(each.startswith("bh1.") for each in sealed)
        for row in rows:
            for foreign in (each for each in sealed if isinstance(row, TenantCredential)):
                if foreign != row.sealed_password:
                    with pytest.raises(SecretError):
                        TenantCredential(
                            tenant=row.tenant, account=row.account, version=row.version, sealed_password=foreign
                        ).unseal_password()


def test_a_process_that_serves_members_opens_nothing_of_the_fleets(acme, globex, installation):
    with control_plane():
        credentials = list(TenantCredential.objects.filter(account="migration"))
    sealed = seal(PLAIN, **PLACE | {"key": "fleet"})
    give_up_fleet_key()
    for use in (
        lambda: unseal(sealed, **PLACE | {"key": "fleet"}),
        lambda: seal(PLAIN, **PLACE | {"key": "fleet"}),
        *(credential.unseal_password for credential in credentials),
    ):
        with pytest.raises(SecretError, match="serves members"):
            use()
    if installation.engine == "mysql":
        with pytest.raises(SecretError), fleet_context("acme", "migration"):
            pytest.fail("was bound")
    with tenant_context("acme"):
        assert current_record().signing_keys[1]


# Files


def test_keys_are_files_of_this_user_alone_and_are_never_replaced(keys):
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert set(before) == {"runtime.key", "fleet.key", "secret_key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert make_keys() == []
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before


def test_of_many_that_make_keys_at_once_one_does(keys):
    for path in keys.iterdir():
        path.unlink()
    with ThreadPoolExecutor(8) as pool:
        made = [path for paths in pool.map(lambda _: make_keys(), range(8)) for path in paths]
    assert sorted(path.name for path in made) == ["fleet.key", "runtime.key", "secret_key"]
    assert sorted(path.name for path in keys.iterdir()) == ["fleet.key", "runtime.key", "secret_key"]


FAULTS = {
    "others may read it": lambda path: path.chmod(0o640),
    "not 32 bytes": lambda path: path.write_text(base64.b64encode(b"short").decode()),
    "is not 32 bytes in base64": lambda path: path.write_text("\u00fc" * 32),
    "IsADirectoryError": lambda path: (path.unlink(), path.mkdir(mode=0o700)),
    "cannot be read as text": lambda path: path.write_bytes(b"\xff" * 32),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_key_is_refused_with_what_to_do_and_without_showing_it(keys, settings, fault):
    path = keys / "runtime.key"
    content = path.read_text()
    FAULTS[fault](path)
    secrets._keys.clear()
    with pytest.raises(SecretError, match=fault) as refusal:
        seal(PLAIN, **PLACE)
    assert key_fault(settings.BULKHEAD_KEYS["runtime"]) == str(refusal.value)
    assert content not in str(refusal.value)


def test_a_key_in_the_environment_or_in_a_named_file_is_taken_and_not_made(keys, settings, monkeypatch, tmp_path):
    value = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("BULKHEAD_RUNTIME_KEY", value)
    (keys / "runtime.key").unlink()
    secrets._keys.clear()
    assert make_keys() == []
    sealed = seal(PLAIN, **PLACE)
    monkeypatch.delenv("BULKHEAD_RUNTIME_KEY")
    named = tmp_path / "named.key"
    monkeypatch.setenv("BULKHEAD_RUNTIME_KEY_FILE", str(named))
    assert "does not exist" in key_fault(settings.BULKHEAD_KEYS["runtime"])
    named.write_text(value)
    named.chmod(0o600)
    secrets._keys.clear()
    assert unseal(sealed, **PLACE) == PLAIN


# Shown nowhere


def test_a_secret_shows_in_no_representation_log_pickle_or_copy(caplog):
    secret = Secret(PLAIN)
    held = {"PASSWORD": secret, "nested": [(secret,)]}
    with caplog.at_level(logging.INFO):
        logging.getLogger("x").info("%r %s", secret, held)
    for shown in (repr(secret), repr(held), pformat(held), f"{held}", caplog.text):
        assert PLAIN not in shown
    for kept in (copy.copy(secret), copy.deepcopy(secret), copy.deepcopy(held)["PASSWORD"]):
        assert isinstance(kept, Secret)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(held, protocol)
    assert f"{secret}" == PLAIN


def test_no_page_dump_or_representation_shows_a_secret_of_a_bound_tenant(acme, installation, settings):
    settings.DEBUG = True
    with tenant_context("acme"):
        record, bound = current_record(), require_bound()
        connection.ensure_connection()
        shown = [repr(record), repr(bound), repr(connection.settings_dict), pformat(vars(record))]
        try:
            record.database("runtime")
            unseal(record.sealed_keys[1].sealed, key="runtime", tenant="x", field="x", version=1)
        except SecretError as error:
            reporter = ExceptionReporter(RequestFactory().get("/"), type(error), error, error.__traceback__)
            shown += [reporter.get_traceback_html(), reporter.get_traceback_text()]
        dump = io.StringIO()
        call_command("diffsettings", all=True, stdout=dump)
        shown.append(dump.getvalue())
        plain = [str(record.signing_keys[1]), str(settings.SECRET_KEY), repr(bytes(secrets._load("runtime")))]
        if installation.engine == "mysql":
            plain.append(str(record.sealed_credentials["runtime"].unseal_password()))
            plain.append(str(settings.DATABASES["control"]["PASSWORD"]))
    for text in shown:
        for secret in plain:
            assert secret not in text


def test_a_key_that_failed_shows_in_no_frame(keys):
    sealed = seal(PLAIN, **PLACE)
    wrapped, body = sealed.split(".")[2:]
    broken = ".".join(("bh1", "runtime", wrapped, body[:-4] + "AAAA"))
    loaded = secrets._load("runtime")
    with pytest.raises(SecretError) as refusal:
        unseal(broken, **PLACE)
    frames, traceback = [], refusal.value.__traceback__.tb_next
    while traceback:
        frames.append(repr(traceback.tb_frame.f_locals))
        traceback = traceback.tb_next
    assert all(repr(bytes(loaded)) not in frame for frame in frames)
    assert "b'********'" in frames[-1]


def test_two_processes_that_make_keys_at_once_agree(installation):
    """Each starts where no key is."""
    code = """
    import tempfile, threading, os
    from pathlib import Path
    from django.conf import settings
    from tenants import secrets
    home = Path(tempfile.mkdtemp())
    settings.BULKHEAD_HOME = home
    settings.BULKHEAD_KEYS = {n: secrets.KeySource(f"X_{n}", home / "keys" / n) for n in ("runtime", "fleet")}
    read, write = os.pipe()
    children = []
    for number in range(4):
        if (pid := os.fork()) == 0:
            os.read(read, 1)
            made = secrets.make_keys()
            os._exit(len(made))
        children.append(pid)
    os.write(write, b"1234")
    made = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert sum(made) == 3, made
    """
    run_python(installation, code)
