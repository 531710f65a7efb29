"""Raw SQL in the bound tenant, by cursors and raw querysets."""

from django.db import connection

from scans.models import Target
from tests.interleaving.orm_operations import equal, names, some_target
from tests.interleaving.unit import operation


@operation("sql", 3)
def select_by_cursor(unit):
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM scans_target ORDER BY id")
        found = [name for (name,) in cursor.fetchall()]
    equal(unit, found, [unit.ledger.targets[key] for key in sorted(unit.ledger.targets)], "cursor")


@operation("sql", 2)
def fetch_in_steps(unit):
    with unit.open_across_steps(), connection.cursor() as cursor:
        cursor.execute("SELECT name FROM scans_target")
        found = [cursor.fetchone()]
        yield
        found += cursor.fetchmany(2)
        yield
        found += list(cursor)
        equal(unit, sorted(found), sorted((name,) for name in unit.ledger.targets.values()), "fetch")


@operation("sql", 2)
def read_raw(unit):
    names(unit, Target.objects.raw("SELECT * FROM scans_target"), "raw")


@operation("sql", 2)
def update_by_cursor(unit):
    key, mark = some_target(unit), unit.mark()
    parameter = Target._meta.pk.get_db_prep_value(key, connection)
    with connection.cursor() as cursor:
        if unit.chance.random() < 0.5:
            cursor.execute("UPDATE scans_target SET name = %s WHERE id = %s", [mark, parameter])
        else:
            cursor.executemany("UPDATE scans_target SET name = %s WHERE id = %s", [(mark, parameter)])
    unit.ledger.targets[key] = mark


@operation("sql", 1)
def inspect_the_database(unit):
    with connection.cursor() as cursor:
        found = connection.introspection.table_names(cursor)
    equal(unit, "scans_target" in found and "tenants_tenant" not in found, True, "introspection")
