"""
Fixtures: ``acme`` and ``globex`` are provisioned tenants, on SQLite and then on MariaDB.

A test that asks for any of them runs once per engine. Tests are unbound: they bind what they touch, as the product
does. What a test commits is put back after it.
"""

import os
import shutil

import django_rq
import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient
from whitenoise.middleware import WhiteNoiseMiddleware

from tenants.accounts.hashers import BoundedArgon2
from tenants.context import control_plane, tenant_context
from tenants.embedded import MariaDB, Redis
from tenants.planes import current
from tenants.services import find_tenant
from tenants.tokens import TenantRefreshToken
from tests.environment import HOME
from tests.installation import MySQLInstallation, SQLiteInstallation

ENGINES = ("sqlite", "mysql")


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker):
    """Which database may be used is the binding's question, not pytest-django's."""


@pytest.fixture(scope="session", autouse=True)
def _unblocked(django_db_blocker):
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes():
    """Hundreds of tests log in. `hashed_as_deployed` is for those that are about hashing itself."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(BoundedArgon2, "time_cost", 1)
        monkeypatch.setattr(BoundedArgon2, "memory_cost", 64)
        yield


@pytest.fixture(scope="session", autouse=True)
def _static_files_found_once():
    """Each test client makes a chain of middleware of its own, and WhiteNoise's looked for its 170 files each time."""
    found = {}
    find = WhiteNoiseMiddleware.add_files_from_finders

    def find_once(self):
        if not found:
            find(self)
            found.update(self.files)
        self.files.update(found)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", find_once)
        yield


@pytest.fixture(scope="session")
def redis():
    with Redis(HOME) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory):
    with MariaDB(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session", params=ENGINES)
def _engine(request, redis):
    home = HOME / request.param
    home.mkdir(mode=0o700)
    if request.param == "sqlite":
        yield SQLiteInstallation(home)
    else:
        yield MySQLInstallation(home, request.getfixturevalue("mariadb"))
    shutil.rmtree(home)


@pytest.fixture(autouse=True)
def retired(monkeypatch):
    """This process, each time that it would have been ended for changing its own binding. Such a test clears it."""
    pids: list[int] = []
    monkeypatch.setattr("tenants.sentinel.end_process", lambda: pids.append(os.getpid()))
    yield pids
    assert pids == [], "Something was left bound: the log has where."


@pytest.fixture
def installation(_engine):
    _engine.use()
    yield _engine
    left_bound = current()
    _engine.restore()
    django_rq.get_connection("default").flushdb()
    assert left_bound is None, f"The test left {left_bound} bound."


@pytest.fixture
def acme(installation):
    return _tenant("acme")


@pytest.fixture
def globex(installation):
    return _tenant("globex")


def _tenant(slug):
    with control_plane():
        return find_tenant(slug)


@pytest.fixture
def alice(acme):
    return _member("acme", "alice")


@pytest.fixture
def tom(acme):
    return _member("acme", "tom")


@pytest.fixture
def mallory(globex):
    return _member("globex", "mallory")


def _member(slug, username):
    with tenant_context(slug):
        return get_user_model().objects.get(username=username)


@pytest.fixture
def alice_api(alice):
    return api_client("acme", alice)


@pytest.fixture
def tom_api(tom):
    return api_client("acme", tom)


@pytest.fixture
def mallory_api(mallory):
    return api_client("globex", mallory)


@pytest.fixture
def stranger_api(installation):
    """Nobody: must see nothing anywhere."""
    return APIClient()


def api_client(slug, user):
    with tenant_context(slug):
        token = TenantRefreshToken.for_user(user).access_token
        return APIClient(headers={"Authorization": f"Bearer {token}"})


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    terminalreporter.section("tests per database engine")
    counts = _counts(terminalreporter)
    terminalreporter.line("   ".join(f"{engine}: {count} passed" for engine, count in counts.items()))


def _counts(reporter):
    passed = [report.nodeid for report in reporter.stats.get("passed", [])]
    return {engine: sum(f"[{engine}" in nodeid or f"-{engine}" in nodeid for nodeid in passed) for engine in ENGINES}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and exitstatus == 0:
        counts = _counts(reporter)
        if len(set(counts.values())) != 1 and not session.config.option.keyword:
            reporter.line(f"The engines did not pass the same number of tests: {counts}", red=True)
            session.exitstatus = 1
