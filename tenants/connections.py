"""
The connection handler: ``default`` is whatever is bound, and no other plane's alias resolves.

Each thread keeps a few tenant connections open, least recently used closed first, and never one that is in use.
"""

import ctypes
import logging
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import ConnectionHandler, load_backend

from tenants.exceptions import WrongTenantError
from tenants.planes import Bound, Plane, _bound, current, is_in_event_loop, real_alias, require_bound

logger = logging.getLogger(__name__)

IDLE_SECONDS_BEFORE_CHECK = 1.0  # a connection idle for longer is checked before it is used again


class _Live(OrderedDict):
    """A thread's open connections. They end with it: left to the collector, dead threads use up an account's limit."""

    def __init__(self):
        super().__init__()
        self.process = os.getpid()

    def __del__(self, getpid=os.getpid, is_finalizing=sys.is_finalizing):
        # In a forked child they are the parent's; and at the interpreter's end nothing is left to close them with.
        if getpid() == self.process and not is_finalizing():
            for wrapper in self.values():
                wrapper.drop()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.live = _Live()
        self.unbound: dict[str, Any] = {}


_thread = _Thread()
_all_wrappers: weakref.WeakSet = weakref.WeakSet()
_fork_lock = threading.Lock()  # no wrapper comes to the set while a fork reads it
_kept: list[Any] = []
inherited_files: set[str] = set()  # SQLite databases that stayed open across the fork which made this process


class PlaneConnections(ConnectionHandler):
    """Replaces the class of ``django.db.connections``, so that every piece of Django that holds it sees planes."""

    def __getitem__(self, alias):
        bound = current()
        if bound is None and alias == DEFAULT_DB_ALIAS:
            return self._unbound()
        real_alias(alias)
        wrapper = _thread.live.get((bound.alias, bound.account))
        if wrapper is None or wrapper.bound is not bound:
            wrapper = self._take(wrapper, bound)
        return wrapper

    def __iter__(self):
        bound = current()
        return iter([DEFAULT_DB_ALIAS] if bound is None else [DEFAULT_DB_ALIAS, bound.alias])

    def __setitem__(self, alias, wrapper):
        raise WrongTenantError("Connections cannot be put in place of others: bind the plane that you want.")

    def __delitem__(self, alias):
        raise WrongTenantError("Connections cannot be taken away: they end with their binding.")

    def all(self, initialized_only=False):
        """This thread's open connections, bound or not: what Django closes at the end of a request."""
        return list(_thread.live.values())

    def _take(self, wrapper, bound: Bound):
        """This thread's connection to the bound plane for a new unit of work: the one that is open, if it is fit."""
        if wrapper is not None and wrapper.is_in_transaction:
            # Left by work in another thread or task, whose own end did not come by here. Nobody would ever commit it.
            logger.error("A transaction on %s was left open by an earlier unit of work: it is rolled back", bound.alias)
        elif wrapper is not None and not wrapper.retired and wrapper.source is bound.database:
            wrapper.bound = bound
            return wrapper
        return self._open(bound)

    def _open(self, bound: Bound):
        key = (bound.alias, bound.account)
        if (old := _thread.live.pop(key, None)) is not None:
            old.drop()
        wrapper = load_backend(bound.database["ENGINE"]).DatabaseWrapper(bound.database, bound.alias)
        wrapper.account = bound.account
        wrapper.source = bound.database
        wrapper.bound = bound
        wrapper.unbound_at = time.monotonic()
        _thread.live[key] = wrapper
        with _fork_lock:
            _all_wrappers.add(wrapper)
        self._trim(bound)
        return wrapper

    def _trim(self, bound: Bound) -> None:
        tenants = [key for key in _thread.live if key[0] != Plane.CONTROL]
        for key in tenants[: max(0, len(tenants) - settings.BULKHEAD_CONNECTIONS_PER_THREAD)]:
            wrapper = _thread.live[key]
            if not wrapper.is_in_transaction and key != (bound.alias, bound.account):
                del _thread.live[key]
                wrapper.drop()

    def _unbound(self):
        engine = self.settings[Plane.CONTROL]["ENGINE"]
        if engine not in _thread.unbound:
            _thread.unbound[engine] = _unbound_class(engine)(self.settings[DEFAULT_DB_ALIAS], DEFAULT_DB_ALIAS)
        return _thread.unbound[engine]


@cache
def _unbound_class(engine: str):
    """A dialect without a database: answers what SQL looks like, and refuses whatever needs a connection."""

    dialect: Any = load_backend(engine).DatabaseWrapper

    class Unbound(dialect):
        def _refuse(self, *args, **kwargs):
            require_bound()
            raise WrongTenantError("This connection was taken where nothing was bound: take it inside the binding.")

        connect = ensure_connection = cursor = chunked_cursor = _refuse
        commit = rollback = savepoint = savepoint_commit = savepoint_rollback = clean_savepoints = _refuse
        get_autocommit = set_autocommit = get_rollback = set_rollback = on_commit = schema_editor = _refuse
        # ``atomic()`` and django-rq read it before they do anything else; ``__init__`` sets it.
        in_atomic_block = property(_refuse, lambda self, value: None)

    return Unbound


def complete(database: Mapping[str, Any]) -> dict[str, Any]:
    """A database dictionary with every key that Django's backends expect."""
    name = "only"
    database = {"CONN_HEALTH_CHECKS": True, **database}
    return ConnectionHandler().configure_settings({DEFAULT_DB_ALIAS: {}, name: database})[name]


def is_in_transaction(bound: Bound) -> bool:
    wrapper = _thread.live.get((bound.alias, bound.account))
    return wrapper is not None and wrapper.is_in_transaction


def before_bind(bound: Bound) -> None:
    """Django checks the health of a connection on request signals only, which a worker's loop never sends."""
    wrapper = _thread.live.get((bound.alias, bound.account))
    if wrapper is None or is_in_event_loop():  # there, this thread's connections are not used, nor may they be closed
        return
    _thread.live.move_to_end((bound.alias, bound.account))
    if wrapper.errors_occurred or time.monotonic() - wrapper.unbound_at > IDLE_SECONDS_BEFORE_CHECK:
        wrapper.close_if_unusable_or_obsolete()


def after_unbind(bound: Bound) -> bool:
    """
    Drops what must not outlive the binding. False if a transaction was open: it is rolled back with its connection.
    """
    key = (bound.alias, bound.account)
    wrapper = _thread.live.get(key)
    if wrapper is None or wrapper.bound is not bound:
        return True
    wrapper.unbound_at = time.monotonic()
    wrapper.bound = None
    is_open = wrapper.is_in_transaction
    # The stronger accounts are not kept; nor is what was closed, which would have another one closed in its place.
    if is_open or bound.account != "runtime" or wrapper.connection is None:
        del _thread.live[key]
        wrapper.drop()
    return not is_open


def close_tenant_connections() -> None:
    """Closes this thread's connections that no transaction is using; the next use opens new ones."""
    for key, wrapper in list(_thread.live.items()):
        if not wrapper.is_in_transaction:
            del _thread.live[key]
            wrapper.drop()


def install() -> None:
    connections.__class__ = PlaneConnections
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _before_fork() -> None:
    """
    SQLite's locks are the process's: a child that opens a file which its parent has open believes to hold the parent's,
    and loses what it commits. So this thread's connections are closed; other threads' cannot be closed from here.

    Between fork and the child's first line the other threads' handles die with their threads: hold them.
    """
    for wrapper in _thread.live.values():
        if wrapper.vendor == "sqlite" and not wrapper.is_in_transaction and not is_in_event_loop():
            wrapper.close()
    _fork_lock.acquire()
    _kept.extend(wrapper for wrapper in _all_wrappers if wrapper.connection is not None)


def _after_fork_in_parent() -> None:
    _kept.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    """
    A child starts unbound and with no connections. The handles it inherited are neither used nor closed, ever:
    closing one would say good-bye to the server on the parent's behalf.
    """
    for wrapper in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(wrapper.connection))
        if wrapper.vendor == "sqlite":
            inherited_files.add(str(wrapper.settings_dict["NAME"]))
    _kept.clear()
    for wrapper in _all_wrappers:
        wrapper.retired = True
        wrapper.connection = None
    _fork_lock.release()
    _thread.live, _thread.unbound = _Live(), {}
    _bound.set(None)
