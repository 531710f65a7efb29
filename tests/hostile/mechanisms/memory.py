"""What is in the process's memory"""

import gc
import sys
import threading

from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants import connections as ours
from tests.hostile.mechanism import CONNECTION, OPEN, Verdict, mechanism, read
from tests.hostile.mechanisms.aliases import kept_connection

MEMORY = (
    "Nothing on SQLite. On MariaDB the handle is logged in as the other's runtime account: no DDL, no other database."
)
PLAIN_MEMORY = "Nothing: it is the process's memory."


def wrappers(aim):
    found = [each for each in gc.get_objects() if issubclass(type(each), BaseDatabaseWrapper)]
    return [each for each in found if each.alias == aim.alias]


def session(aim):
    """A session of the other's, with what its request put in it."""
    key = f"session-of-{aim.slug}"
    store = SessionStore(session_key=key)
    if not store.exists(key):
        store["note"] = read(connection.cursor())
        store._session_key = key
        store.save(must_create=True)
    return key


@mechanism("connections found by the collector", CONNECTION)
def found_by_gc(aim):
    """`gc.get_objects()` for the other's connection objects, and a cursor of each."""
    return [read(wrapper.cursor()) for wrapper in wrappers(aim)]


@mechanism("another thread's connections", CONNECTION, has_neighbour=True)
def other_threads(aim):
    """The set of all threads' connections, which fork keeps, shared by `inc_thread_sharing()`."""
    found = [each for each in ours._all_wrappers if each.alias == aim.alias]
    for wrapper in found:
        wrapper.inc_thread_sharing()
    return [read(wrapper.cursor()) for wrapper in found]


@mechanism("this thread's idle connections", CONNECTION)
def idle(aim):
    """`connections.all()`, which has the idle ones of other tenants."""
    return [read(each.cursor()) for each in connections.all() if each.alias == aim.alias]


@mechanism("a session of another tenant", Verdict("router"), keep=session)
def session_of_another(aim):
    """Its key, looked up in the own database: it is not there."""
    return SessionStore(session_key=aim.kept).load()


@mechanism("the cache of content types", Verdict("ORM"), control=lambda aim: read(connection.cursor()))
def content_type_cache(aim):
    """`ContentType.objects._cache`: other planes' types stand in it, and no row of theirs."""
    return {alias: sorted(map(str, types)) for alias, types in ContentType.objects._cache._entries.items()}


@mechanism("a driver's handle found by the collector", OPEN, outer=MEMORY)
def handle_by_gc(aim):
    """`wrapper.connection` of an idle connection: the handle is still logged in."""
    for wrapper in wrappers(aim):
        if wrapper.connection is not None:
            return read(wrapper.connection.cursor())
    return None


@mechanism("a kept driver's handle", OPEN, keep=kept_connection, outer=MEMORY)
def kept_handle(aim):
    """`connection.connection` of an earlier unit of work."""
    return read(aim.kept.connection.cursor())


@mechanism(
    "a kept driver's handle, on a third database",
    mysql=Verdict("account", "1142"),
    keep=kept_connection,
    aims=("globex",),
    control=lambda aim: read(aim.kept.connection.cursor()),
)
def kept_handle_elsewhere(aim):
    """The same handle, and control's database by a qualified name."""
    cursor = aim.kept.connection.cursor()
    cursor.execute("SELECT name FROM control_plane.auth_group")
    return cursor.fetchall()


@mechanism("a driver's handle of another thread", OPEN, has_neighbour=True, aims=("globex",), outer=MEMORY)
def handle_of_another_thread(aim):
    """The same, of a thread in the midst of its work."""
    return [read(each.connection.cursor()) for each in wrappers(aim) if each.connection is not None]


@mechanism("the frames of other threads", OPEN, has_neighbour=True, outer=PLAIN_MEMORY)
def frames(aim):
    """`sys._current_frames()`: the local variables of other requests."""
    found = []
    for thread, frame in sys._current_frames().items():
        while frame is not None and thread != threading.get_ident():
            found.append(frame.f_locals.get("rows_of_the_other"))
            frame = frame.f_back
    return found
