"""
Code that is written to cheat, let in by a view, a job function and a command, each bound to acme. It is aimed at its
own tenant, where it works, and at globex and at control, where a named ring stops it; or else it stands in the public
list as what a process can do to itself. The other databases are read afterwards by a way of their own.
"""

import json
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from urllib.parse import quote

import MySQLdb
import pytest
from django.contrib.auth.models import Group

from config.env import PROJECT
from tenants.context import control_plane, tenant_context
from tenants.tokens import TenantRefreshToken
from tests.hostile.mechanism import OPEN, READ
from tests.hostile.mechanisms import MECHANISMS
from tests.serving import WebServer, environment_of

OWN = "acme"
PLANES = (OWN, "globex", "control")
BOTH = [each for each in MECHANISMS.values() if len(each.verdicts) == 2]
ON_SQLITE = [each for each in MECHANISMS.values() if list(each.verdicts) == ["sqlite"]]
ON_MARIADB = [each for each in MECHANISMS.values() if list(each.verdicts) == ["mysql"]]


class Hostile:
    """The process of the product that the hostile code is in."""

    def __init__(self, installation):
        self.log = installation.home / "hostile.log"
        environment = environment_of(installation) | {"DJANGO_SETTINGS_MODULE": "tests.hostile.settings"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile", str(self.log)],
            cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def carry_out(self, mechanism, aim, door, world):
        order = {"mechanism": mechanism.name, "aim": aim, "door": door, "world": world}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        outcome = json.loads(self.process.stdout.readline())
        assert "crashed" not in outcome, (outcome, self.log.read_text()[-3000:])
        return outcome

    def end(self):
        self.process.stdin.close()
        self.process.wait(40)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def hostile(_engine):
    _engine.use()
    process = Hostile(_engine)
    yield process
    process.end()


class Canaries:
    """A row with the same key and another name in each database; and what stands there, read past the product."""

    def __init__(self, installation, tenants):
        self.installation = installation
        self.names = {plane: f"canary of {plane} {uuid.uuid4().hex}" for plane in PLANES}
        self.world = {}
        for plane in PLANES:
            with control_plane() if plane == "control" else tenant_context(plane):
                Group.objects.create(pk=77, name=self.names[plane])
            alias = tenants[plane].alias if plane in tenants else "control"
            home = installation.home
            self.world[plane] = {
                "slug": plane if plane in tenants else None,
                "id": tenants[plane].pk.hex if plane in tenants else "",
                "alias": alias,
                "database": alias if plane in tenants else "control_plane",
                "path": str(home / "tenants" / f"{alias}.sqlite3" if plane in tenants else home / "control.sqlite3"),
            }
        installation.forget()

    def at_rest(self, plane):
        """Every row of the database; on MariaDB the server's databases and accounts too."""
        place = self.world[plane]
        if self.installation.engine == "sqlite":
            with closing(sqlite3.connect(place["path"])) as handle:
                return list(handle.iterdump())
        sums = self.installation._checksum()
        return (
            {table: checksum for table, checksum in sums.items() if table.startswith(f"{place['database']}.")},
            self.installation._sql(f"SHOW TABLES FROM {place['database']}"),
            self.installation._database_names(),
            self.installation._user_names(),
        )

    def by_admin(self, statements):
        """As MariaDB's administrator. ``!1290 ...`` is one that the server lets nobody do."""
        for statement in statements:
            code, _, sql = statement[1:].partition(" ") if statement[0] == "!" else ("", "", statement)
            try:
                self.installation._sql(sql.format(db=self.world["globex"]["database"], file="/nowhere/out"))
            except MySQLdb.Error as error:
                assert str(error.args[0]) == code, statement

    def groups(self, plane):
        place = self.world[plane]
        if self.installation.engine == "sqlite":
            with closing(sqlite3.connect(place["path"])) as handle:
                return {name for (name,) in handle.execute(READ)}
        return {name for (name,) in self.installation._sql(f"SELECT name FROM {place['database']}.auth_group")}


@pytest.fixture
def canaries(installation, acme, globex):
    yield Canaries(installation, {"acme": acme, "globex": globex})
    for file in (installation.home / "files").glob("*/note"):
        file.unlink()


def worked(mechanism, aim, outcome, canaries) -> bool:
    if mechanism.writes:
        return "defaced" in canaries.groups(aim)
    return (mechanism.sign or canaries.names[aim]) in outcome.get("got", "") + outcome["loot"]


def try_it(mechanism, hostile, canaries, engine):
    """The control first: it comes by one door, as does what is aimed at the control database."""
    verdict = mechanism.verdicts[engine]
    canaries.by_admin(mechanism.by_admin)
    own = hostile.carry_out(mechanism, OWN, mechanism.control_door or mechanism.doors[0], canaries.world)
    assert worked(mechanism, OWN, own, canaries), f"the control of {mechanism.name}: {own}"
    canaries.by_admin(mechanism.undo)
    others = [plane for plane in PLANES if plane != OWN]
    before = {plane: canaries.at_rest(plane) for plane in others}
    for aim in mechanism.aims:
        for door in mechanism.doors if aim == mechanism.aims[0] else mechanism.doors[:1]:
            outcome = hostile.carry_out(mechanism, aim, door, canaries.world)
            what = f"{mechanism.name}, at {aim}, through the {door}: {outcome}"
            assert outcome.get("bound") == f"tenant {OWN!r}", what
            if verdict == OPEN:
                assert worked(mechanism, aim, outcome, canaries), what
            else:
                assert verdict.is_met_by(outcome), what
                assert not [plane for plane in others if canaries.names[plane] in json.dumps(outcome)], what
    if not (verdict == OPEN and mechanism.writes):
        for plane in ["globex"] if mechanism.tells_control else others:
            assert canaries.at_rest(plane) == before[plane]


def parametrize(mechanisms):
    ids = [each.name.replace("[", "(").replace("]", ")") for each in mechanisms]
    return pytest.mark.parametrize("mechanism", mechanisms, ids=ids)


@parametrize(BOTH)
def test_hostile_code_is_stopped_or_listed(hostile, canaries, installation, mechanism):
    try_it(mechanism, hostile, canaries, installation.engine)


@pytest.mark.parametrize("_engine", ["sqlite"], ids=["SQLite"], indirect=True)
@parametrize(ON_SQLITE)
def test_hostile_sql_and_files_are_stopped_or_listed(hostile, canaries, mechanism):
    try_it(mechanism, hostile, canaries, "sqlite")


@pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
@parametrize(ON_MARIADB)
def test_hostile_sql_is_stopped_by_the_account_or_listed(hostile, canaries, mechanism):
    try_it(mechanism, hostile, canaries, "mysql")


SERVED = ["using()", "connections[alias]", "a plane bound inside the tenant", "create_task()", "unbound()"]
SERVED_ON = {"sqlite": ["ATTACH"], "mysql": ["a qualified name", "USE"]}
WRITES = ["save(using=)"]  # last: what it does to its own tenant is its control


def test_hostile_code_is_stopped_in_a_real_web_server(canaries, installation, alice):
    """Gunicorn with its processes and threads, asked from outside; the view tells what it met."""
    engine = installation.engine
    with tenant_context(OWN):
        token = str(TenantRefreshToken.for_user(alice).access_token)
    before = {plane: canaries.at_rest(plane) for plane in PLANES if plane != OWN}
    web = WebServer(installation)
    web.environment["DJANGO_SETTINGS_MODULE"] = "tests.hostile.settings"
    with web as server:
        for mechanism in [MECHANISMS[name] for name in SERVED + SERVED_ON[engine] + WRITES]:
            for aim in (*mechanism.aims, OWN):
                order = {"mechanism": mechanism.name, "aim": aim, "world": canaries.world}
                path = f"/api/v1/hostile/tell/?order={quote(json.dumps(order))}"
                status, answer = server.ask("GET", path, token=token)
                if aim != OWN:
                    assert status == 418 and mechanism.verdicts[engine].is_met_by(answer), (mechanism.name, aim, answer)
                    assert canaries.names[aim] not in json.dumps(answer)
                elif mechanism.control is None:
                    assert status == 200 and worked(mechanism, OWN, answer | {"loot": ""}, canaries), answer
    assert {plane: canaries.at_rest(plane) for plane in before} == before


def test_the_public_list_is_what_is_tried():
    page = (PROJECT / "docs/explanation/hostile-code.md").read_text()
    expected = subprocess.run(
        [sys.executable, "-m", "tests.hostile.listing"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout

    assert expected.strip() in page
    assert str(len(MECHANISMS)) in page.split("##")[0]
