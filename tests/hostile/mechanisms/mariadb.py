"""SQL on MariaDB"""

from inspect import currentframe

import MySQLdb
from django.db import DatabaseError, connection

from tests.hostile.mechanism import OPEN, READ, Verdict, mechanism, read

NO_GRANT, NO_DATABASE, NO_PRIVILEGE = (Verdict("account", code) for code in ("1142", "1044", "1227"))
OWN = Verdict("account")


def connected(database, name, **options):
    return MySQLdb.connect(
        host=database["HOST"],
        port=database["PORT"],
        user=database["USER"],
        passwd=str(database["PASSWORD"]),
        db=name,
        autocommit=True,
        **options,
    )


def execute(*statements):
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)
        return cursor.fetchall()


def own_rows(aim):
    return read(connection.cursor())


def statement(name, verdict, says, *statements, by_admin=None, undo=(), control=None, **options):
    """
    Entered like the others. ``{db}`` is the database that it is aimed at. Where an account may not do it in its own
    database either, the control is the same statement (or ``by_admin``), given by the server's administrator.
    """

    def attack(aim):
        return execute(*(each.format(db=aim.database, file=f"{aim.path}.out") for each in statements))

    attack.__doc__ = says
    attack.__module__ = currentframe().f_back.f_globals["__name__"]
    if by_admin is not None:
        options |= {"by_admin": by_admin or statements, "undo": undo}
        control = control or own_rows
    mechanism(name, mysql=verdict, control=control, **options)(attack)


# In the own database each of these works as it stands.
statement("a qualified name", NO_GRANT, "`SELECT ... FROM other.auth_group`.", "SELECT name FROM {db}.auth_group")
statement(
    "a write by a qualified name",
    NO_GRANT,
    "`UPDATE other.auth_group ...`.",
    "UPDATE {db}.auth_group SET name = 'defaced'",
    writes=True,
)
statement("USE", NO_DATABASE, "`USE other`, and then a plain statement.", "USE {db}", READ)
statement("a subquery", NO_GRANT, "A qualified name inside.", "SELECT (SELECT MAX(name) FROM {db}.auth_group)")
statement("UNION", NO_GRANT, "A qualified name in its second half.", "SELECT 1 UNION SELECT name FROM {db}.auth_group")
statement(
    "INSERT ... SELECT",
    NO_GRANT,
    "The other's rows, copied into the own table.",
    "INSERT INTO auth_group (name) SELECT CONCAT('copy of ', name) FROM {db}.auth_group",
    READ,
)
statement(
    "an executable comment",
    NO_GRANT,
    "The name, hidden in `/*! ... */`.",
    "SELECT name FROM /*!50000 {db}.auth_group */",
)
statement(
    "PREPARE and EXECUTE",
    NO_GRANT,
    "The statement, in a variable.",
    "SET @statement = 'SELECT name FROM {db}.auth_group'",
    "PREPARE prepared FROM @statement",
    "EXECUTE prepared",
)
statement(
    "EXECUTE IMMEDIATE", NO_GRANT, "The statement, in a string.", "EXECUTE IMMEDIATE 'SELECT name FROM {db}.auth_group'"
)
statement(
    "a compound statement",
    NO_GRANT,
    "`BEGIN NOT ATOMIC ... END`.",
    "BEGIN NOT ATOMIC SELECT name FROM {db}.auth_group; END",
)
statement(
    "HANDLER",
    NO_GRANT,
    "`HANDLER other.auth_group OPEN`, which reads below SQL.",
    "HANDLER {db}.auth_group OPEN AS h",
    "HANDLER h READ FIRST",
)
statement("SHOW CREATE TABLE", NO_GRANT, "The other's schema.", "SHOW CREATE TABLE {db}.auth_group", READ)
statement("DESCRIBE", NO_GRANT, "The other's columns.", "DESCRIBE {db}.auth_group", READ)
statement("EXPLAIN", NO_GRANT, "How many rows the other has.", "EXPLAIN SELECT * FROM {db}.auth_group", READ)
statement("CHECKSUM TABLE", NO_GRANT, "Whether the other's rows change.", "CHECKSUM TABLE {db}.auth_group", READ)
statement("SHOW TABLES", NO_DATABASE, "The other's tables.", "SHOW TABLES FROM {db}", READ)
statement(
    "information_schema",
    OWN,
    "Tables, columns, sizes: those of the own database stand there, and of no other.",
    "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = '{db}'",
    READ,
)
statement("SHOW DATABASES", OWN, "The own one, and `information_schema`.", "SHOW DATABASES", control=own_rows)
statement("SHOW PROCESSLIST", OWN, "The own threads.", "SHOW FULL PROCESSLIST", control=own_rows, has_neighbour=True)
statement("LOAD_FILE()", OWN, "It gives NULL.", "SELECT LOAD_FILE('{file}')", control=own_rows)


def kill_its_own(aim):
    spare = connected(connection.settings_dict, aim.database)
    execute(f"KILL {spare.thread_id()}")
    return own_rows(aim)


@mechanism("KILL", mysql=Verdict("account", "1095"), has_neighbour=True, control=kill_its_own)
def kill(aim):
    """Threads of others, by their numbers."""
    [[mine]] = execute("SELECT CONNECTION_ID()")
    others = [number for number in range(max(1, mine - 20), mine + 20) if number != mine]
    caught = {}
    for number in others:
        try:
            execute(f"KILL {number}")
        except DatabaseError as error:
            caught[error.args[0]] = error
    raise caught[1095]


@mechanism("select_db() of the driver", mysql=NO_DATABASE)
def select_db(aim):
    """`connection.connection.select_db(other)`."""
    connection.ensure_connection()
    connection.connection.select_db(aim.database)
    return read(connection.connection.cursor())


@mechanism("change_user() of the driver", mysql=NO_DATABASE)
def change_user(aim):
    """`connection.connection.change_user(...)` with the own account and the other's database."""
    database = connection.settings_dict
    connection.ensure_connection()
    connection.connection.change_user(database["USER"], str(database["PASSWORD"]), aim.database)
    return read(connection.connection.cursor())


@mechanism("the driver's handle on MariaDB", mysql=NO_GRANT)
def handle(aim):
    """`connection.connection`, past the guard: it is logged in as the own account."""
    connection.ensure_connection()
    cursor = connection.connection.cursor()
    cursor.execute(f"SELECT name FROM {aim.database}.auth_group")
    return cursor.fetchall()


def taking_a_lock(aim):
    execute("SELECT GET_LOCK('work', 0)")


@mechanism(
    "the names of locks",
    mysql=OPEN,
    keep=taking_a_lock,
    sign="is held",
    aims=("globex",),
    outer="Nothing: names of `GET_LOCK` are the whole server's, and any account may ask for them and "
    "hold them. Tenant work takes none.",
)
def lock_names(aim):
    """`IS_USED_LOCK(name)` tells whether somebody holds a lock of that name, and which thread."""
    [[holder]] = execute("SELECT IS_USED_LOCK('work')")
    return "is held" if holder else "is free"
