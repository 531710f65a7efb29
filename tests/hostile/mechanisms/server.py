"""The server: MariaDB"""

from django.db import connection

from tests.hostile.mechanism import Verdict
from tests.hostile.mechanisms.mariadb import NO_DATABASE, NO_GRANT, NO_PRIVILEGE, connected, own_rows, statement

# None of these may a tenant's account do anywhere; the server's administrator may.
statement(
    "stacked statements",
    Verdict("connection", "1064"),
    "`SELECT 1; UPDATE other.auth_group ...`: the driver takes one at a time.",
    "SELECT 1; UPDATE {db}.auth_group SET name = 'defaced'",
    control=own_rows,
)
statement(
    "INTO OUTFILE",
    NO_PRIVILEGE,
    "Rows, to a file of the server's.",
    "SELECT name FROM auth_group INTO OUTFILE '{file}'",
    by_admin=("!1290 SELECT name FROM {db}.auth_group INTO OUTFILE '{file}'",),
)
statement(
    "LOAD DATA INFILE",
    Verdict("account", "1045"),
    "A file of the server's, to rows.",
    "LOAD DATA INFILE '{file}' INTO TABLE auth_group (name)",
    by_admin=("!1290 LOAD DATA INFILE '{file}' INTO TABLE {db}.auth_group (name)",),
)


def with_local_files(aim):
    """With a driver's connection that may send files."""
    path = aim.path.parents[1] / "words"
    path.write_text("defaced")
    handle = connected(connection.settings_dict, aim.database, local_infile=1)
    handle.cursor().execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE auth_group (name)")


statement(
    "LOAD DATA LOCAL",
    Verdict("connection", "4166"),
    "A file of this host, sent by the client.",
    "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE auth_group (name)",
    by_admin=("SET GLOBAL local_infile = 1",),
    undo=("SET GLOBAL local_infile = 0",),
    control=with_local_files,
    writes=True,
)
statement(
    "a temporary table",
    NO_DATABASE,
    "`CREATE TEMPORARY TABLE ... AS SELECT` of the other's.",
    "CREATE TEMPORARY TABLE stolen AS SELECT * FROM {db}.auth_group",
    by_admin=("CREATE TEMPORARY TABLE {db}.stolen AS SELECT * FROM {db}.auth_group",),
    undo=("DROP TEMPORARY TABLE {db}.stolen",),
)
statement(
    "a view across databases",
    NO_GRANT,
    "`CREATE VIEW ... AS SELECT` of the other's.",
    "CREATE VIEW stolen AS SELECT * FROM {db}.auth_group",
    by_admin=("CREATE VIEW {db}.stolen AS SELECT * FROM {db}.auth_group",),
    undo=("DROP VIEW {db}.stolen",),
)
statement(
    "a table like the other's",
    NO_GRANT,
    "`CREATE TABLE ... LIKE`.",
    "CREATE TABLE stolen LIKE {db}.auth_group",
    by_admin=("CREATE TABLE {db}.stolen LIKE {db}.auth_group",),
    undo=("DROP TABLE {db}.stolen",),
)
statement(
    "a foreign key across databases",
    NO_GRANT,
    "It would tell which keys the other has.",
    "ALTER TABLE auth_group ADD CONSTRAINT stolen FOREIGN KEY (id) REFERENCES {db}.auth_group (id)",
    by_admin=(
        "CREATE TABLE {db}.stolen (id INT PRIMARY KEY)",
        "ALTER TABLE {db}.stolen ADD CONSTRAINT stolen FOREIGN KEY (id) REFERENCES {db}.auth_group (id)",
    ),
    undo=("DROP TABLE {db}.stolen",),
)
statement(
    "a stored procedure",
    NO_DATABASE,
    "`CREATE PROCEDURE` in the other's database, to run as its owner.",
    "CREATE PROCEDURE {db}.stolen() SELECT name FROM auth_group",
    by_admin=(),
    undo=("DROP PROCEDURE {db}.stolen",),
)
statement(
    "a trigger",
    NO_GRANT,
    "`CREATE TRIGGER` on the other's table.",
    "CREATE TRIGGER {db}.stolen BEFORE INSERT ON {db}.auth_group FOR EACH ROW SET @a = 1",
    by_admin=(),
    undo=("DROP TRIGGER {db}.stolen",),
)
statement(
    "an event",
    NO_DATABASE,
    "`CREATE EVENT`, which the server would run.",
    "CREATE EVENT {db}.stolen ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    by_admin=(),
    undo=("DROP EVENT {db}.stolen",),
)
statement(
    "FEDERATED and CONNECT tables",
    Verdict("account", "1142 or 1286"),
    "A table that is a connection to another database.",
    "CREATE TABLE stolen (name TEXT) ENGINE=CONNECT TABLE_TYPE=MYSQL CONNECTION='mysql://x@localhost/{db}/auth_group'",
    by_admin=("CREATE TABLE {db}.stolen (name TEXT) ENGINE=InnoDB",),
    undo=("DROP TABLE {db}.stolen",),
)
statement(
    "CREATE SERVER",
    NO_PRIVILEGE,
    "A place for such a table to go to.",
    "CREATE SERVER stolen FOREIGN DATA WRAPPER mysql OPTIONS (HOST '127.0.0.1', DATABASE '{db}')",
    by_admin=(),
    undo=("DROP SERVER stolen",),
)
statement(
    "INSTALL PLUGIN",
    NO_GRANT,
    "Code for the server.",
    "INSTALL PLUGIN stolen SONAME 'stolen.so'",
    by_admin=("INSTALL PLUGIN IF NOT EXISTS InnoDB SONAME 'stolen.so'",),
)
statement(
    "SET GLOBAL",
    NO_PRIVILEGE,
    "A setting of everybody's.",
    "SET GLOBAL general_log = 1",
    by_admin=("SET GLOBAL general_log = 0",),
)
statement(
    "SET ROLE",
    Verdict("account", "1959"),
    "Another's privileges.",
    "SET ROLE stolen",
    by_admin=("CREATE ROLE stolen", "SET ROLE stolen"),
    undo=("SET ROLE NONE", "DROP ROLE stolen"),
)
statement(
    "GRANT",
    NO_DATABASE,
    "The other's database, to oneself.",
    "GRANT SELECT ON {db}.* TO CURRENT_USER()",
    by_admin=("CREATE USER stolen", "GRANT SELECT ON {db}.* TO stolen"),
    undo=("DROP USER stolen",),
)
statement(
    "SHOW GRANTS",
    NO_DATABASE,
    "Another account's.",
    "SHOW GRANTS FOR root@localhost",
    by_admin=("SHOW GRANTS FOR CURRENT_USER()",),
)
statement("the server's own tables", NO_GRANT, "`mysql.user`.", "SELECT * FROM mysql.user", by_admin=())
statement("FLUSH", NO_PRIVILEGE, "`FLUSH TABLES`, which everybody waits for.", "FLUSH TABLES", by_admin=())
statement(
    "CREATE USER", NO_PRIVILEGE, "An account of its own.", "CREATE USER stolen", by_admin=(), undo=("DROP USER stolen",)
)
