"""
The database itself refuses to change or delete an event. Only an account that may change tables could take that away,
and no tenant's runtime account may: docs/adr/0014.
"""

from django.db import connection

TABLE = "audit_auditevent"
SENTENCE = "Audit events are kept as they are."
SQLITE_REFUSAL = f"BEGIN SELECT RAISE(ABORT, '{SENTENCE}'); END"
MYSQL_REFUSAL = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{SENTENCE}'"
TRIGGERS = {
    "sqlite": {
        "audit_no_update": f"BEFORE UPDATE ON {TABLE} FOR EACH ROW {SQLITE_REFUSAL}",
        "audit_no_delete": f"BEFORE DELETE ON {TABLE} FOR EACH ROW {SQLITE_REFUSAL}",
        # REPLACE deletes what is in its way without a word to the trigger above.
        "audit_no_replace": f"BEFORE INSERT ON {TABLE} FOR EACH ROW WHEN EXISTS (SELECT 1 FROM {TABLE} "  # noqa: S608
        f"WHERE number = NEW.number OR id = NEW.id) {SQLITE_REFUSAL}",
    },
    "mysql": {
        "audit_no_update": f"BEFORE UPDATE ON {TABLE} FOR EACH ROW {MYSQL_REFUSAL}",
        "audit_no_delete": f"BEFORE DELETE ON {TABLE} FOR EACH ROW {MYSQL_REFUSAL}",
    },
}


def create_triggers(apps=None, schema_editor=None) -> None:
    """In the bound database, under an account that may change tables."""
    with connection.cursor() as cursor:
        for name, definition in TRIGGERS[connection.vendor].items():
            cursor.execute(f"CREATE TRIGGER {name} {definition}")


def drop_triggers(apps=None, schema_editor=None) -> None:
    with connection.cursor() as cursor:
        for name in TRIGGERS[connection.vendor]:
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}")


def missing_triggers() -> list[str]:
    """Also those that do something else. A MariaDB account that may not change them does not see them."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        else:
            cursor.execute(
                "SELECT TRIGGER_NAME, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION, ' ON ', EVENT_OBJECT_TABLE, "
                "' FOR EACH ROW ', ACTION_STATEMENT) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"
            )
        found = dict(cursor.fetchall())
    wanted = TRIGGERS[connection.vendor]
    return [name for name, definition in wanted.items() if not found.get(name, "").endswith(definition)]
