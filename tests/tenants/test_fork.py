"""A forked child starts unbound and without connections, and takes nothing from its parent."""

from textwrap import dedent

import pytest

from tests.invariants.work import names, run_python

PARENT = """
import os, sys, threading, multiprocessing, warnings
from django.db import OperationalError, connection, connections
from scans.models import ScanProfile
from tenants.context import control_plane, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.planes import current
from tests.invariants.work import add

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
opened, go_on = threading.Event(), threading.Event()

def hold():
    with tenant_context("globex"):
        add("row of the thread, before")
        handle = connections["default"].connection
        for other in connections.all():
            if other is not connections["default"]:
                other.close()
        opened.set()
        go_on.wait(30)
        add("row of the thread, after")
        assert connections["default"].connection is handle

def child():
    assert current() is None
    assert connections.all() == []
    for use in (ScanProfile.objects.count, connection.cursor):
        try:
            use()
        except NoTenantError:
            continue
        raise AssertionError(use)
    with tenant_context("acme"):
        add("row of the child")
        add("row of the child, too")
        is_sqlite = connection.vendor == "sqlite"
    try:
        with tenant_context("globex"):
            assert ScanProfile.objects.count() and not is_sqlite
    except OperationalError as error:
        assert is_sqlite and "was in use when the process was forked" in str(error), error

def wait(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status

thread = threading.Thread(target=hold, daemon=True)
thread.start()
assert opened.wait(30)
"""
FORKS = {
    "os._exit": """
        with tenant_context("acme"):
            add("row before")
            if (pid := os.fork()) == 0:
                child()
                os._exit(0)
            wait(pid)
            add("row after")
    """,
    "sys.exit": """
        with tenant_context("acme"):
            add("row before")
            if (pid := os.fork()) == 0:
                child()
                sys.exit(0)
            wait(pid)
            add("row after")
    """,
    "multiprocessing": """
        with tenant_context("acme"):
            add("row before")
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
            process.join()
            assert process.exitcode == 0, process.exitcode
            add("row after")
    """,
    "unbound": """
        with tenant_context("acme"):
            add("row before")
        if (pid := os.fork()) == 0:
            child()
            os._exit(0)
        wait(pid)
        with tenant_context("acme"):
            add("row after")
    """,
}


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS.keys())
def test_a_child_has_connections_of_its_own_and_its_parents_go_on_working(acme, globex, installation, fork):
    end = "\ngo_on.set()\nthread.join()\n"
    run_python(installation, PARENT + dedent(fork) + end)
    assert names("acme") == {"row before", "row of the child", "row of the child, too", "row after"}
    assert names("globex") == {"row of the thread, before", "row of the thread, after"}


def test_what_a_child_commits_while_its_parent_lives_on_is_not_lost(acme, installation):
    """SQLite's locks are the process's: a child beside an open connection of its parent lost its commits."""
    code = """
    import os
    from django.db import connections
    from tenants.context import tenant_context
    from tests.invariants.work import add

    read, write = os.pipe()
    back, forth = os.pipe()
    with tenant_context("acme"):
        add("row of the parent")
    if (pid := os.fork()) == 0:
        os.close(read), os.close(forth)
        with tenant_context("acme"):
            add("row 1 of the child")
            os.write(write, b"1")
            os.read(back, 1)
            add("row 2 of the child")
        os._exit(0)
    os.close(write), os.close(back)
    assert os.read(read, 1)
    connections.close_all()
    with tenant_context("acme"):
        add("row of the parent, after")
    os.write(forth, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    run_python(installation, code)
    assert names("acme") == {
        "row of the parent",
        "row 1 of the child",
        "row 2 of the child",
        "row of the parent, after",
    }


def test_a_child_cannot_use_what_its_parent_had_open(acme, installation):
    """The handle is there, and talks over the parent's own connection to the server."""
    code = """
    import os
    from django.db import OperationalError, connection, connections, transaction
    from tenants.context import tenant_context
    from tenants.exceptions import WrongTenantError
    from tests.invariants.work import add

    with tenant_context("acme"), transaction.atomic():
        add("row of the parent")
        kept, cursor = connections["default"], connection.cursor()
        cursor.execute("SELECT name FROM scans_scanprofile")
        if (pid := os.fork()) == 0:
            with tenant_context("acme"):
                for use in (cursor.fetchone, lambda: cursor.execute("SELECT 1"), kept.cursor):
                    try:
                        use()
                    except WrongTenantError:
                        continue
                    os._exit(1)
                try:
                    with transaction.atomic():
                        assert connections["default"] is not kept
                except OperationalError as error:
                    if "when the process was forked" not in str(error):
                        os._exit(2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert cursor.fetchone()
        add("row of the parent, after")
    """
    run_python(installation, code)
    assert names("acme") == {"row of the parent", "row of the parent, after"}


def test_a_childs_registry_is_not_locked_by_a_thread_it_has_not(acme, installation):
    code = """
    import os, signal
    from tenants.context import tenant_context
    from tenants.registry import registry

    with tenant_context("acme"):
        pass
    with registry._lock, registry._polling:  # as another thread of the parent may hold them at the fork
        if (pid := os.fork()) == 0:
            signal.alarm(5)
            assert not registry._records  # which that thread may have been writing
            with tenant_context("acme"):
                os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    run_python(installation, code)
