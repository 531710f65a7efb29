"""Tenancy as most people write it first. The machine finds what is wrong with it: it shows that the machine can."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections
from django.test import Client
from rest_framework.authentication import BaseAuthentication

from tests.interleaving.jobs import work
from tests.interleaving.ledger import seed
from tests.interleaving.naive_settings import TENANTS
from tests.interleaving.rest import SQLiteRest


class _PerContext:
    """The same, by somebody who has heard of asynchronous code."""

    def __init__(self) -> None:
        self.__dict__["_variable"] = ContextVar("alias", default=None)

    @property
    def alias(self):
        return self._variable.get()

    def __setattr__(self, name, alias):
        self._variable.set(alias)


_local = _PerContext() if os.environ.get("NAIVE_PER_CONTEXT") else threading.local()


class Router:
    def db_for_read(self, model, **hints):
        return getattr(_local, "alias", None)

    db_for_write = db_for_read

    def allow_relation(self, first, second, **hints):
        return True


class Middleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        _local.alias = request.headers.get("X-Tenant")
        try:
            return self.get_response(request)
        finally:
            _local.alias = None


class Authentication(BaseAuthentication):
    def authenticate(self, request):
        return get_user_model().objects.get(username="owner"), None


class _Job:
    def __init__(self, alias: str | None, mark: str):
        self.alias, self.mark, self.meta = alias, mark, {}

    def perform(self) -> None:
        _local.alias = self.alias
        try:
            work(self.mark)
        finally:
            _local.alias = None

    def delete(self) -> None:
        pass


class Naive:
    name = "naive"
    refusals: tuple[type[Exception], ...] = ()
    is_guarded = False

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._clients: dict[int, Client] = {}

    @contextmanager
    def bind(self, tenant: int) -> Iterator[None]:
        before, _local.alias = getattr(_local, "alias", None), self.alias(tenant)
        try:
            yield
        finally:
            _local.alias = before

    @contextmanager
    def control(self) -> Iterator[None]:
        yield

    def alias(self, tenant: int) -> str:
        return f"deck{tenant:02d}"

    def bound(self) -> int | None:
        alias = getattr(_local, "alias", None)
        return int(alias[-2:]) if alias else None

    def log_in(self, tenant: int, user: Any) -> None:
        """Its requests name the tenant in a header."""

    def ask(self, lane: int, tenant: int, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        client = self._clients.setdefault(lane, Client(raise_request_exception=False))
        headers = {"X-Tenant": self.alias(tenant)}
        return client.generic(method, path, body or b"", content_type="application/json", headers=headers)

    def close(self, response: Any) -> None:
        response._iterator.close()

    def enqueue(self, mark: str, **options: Any) -> None:
        self._jobs.append(_Job(getattr(_local, "alias", None), mark))

    def dequeue(self) -> Any:
        return self._jobs.popleft() if self._jobs else None

    def forget_jobs(self) -> None:
        self._jobs.clear()

    def let_go(self) -> None:
        connections.close_all()


def make(home: Path) -> tuple[Naive, SQLiteRest]:
    stack = Naive()
    call_command(Migrate(), verbosity=0)
    connections.close_all()
    content = (home / "control.sqlite3").read_bytes()
    paths: dict[int | None, Path] = {tenant: home / f"{stack.alias(tenant)}.sqlite3" for tenant in range(TENANTS)}
    for tenant, path in paths.items():
        path.write_bytes(content)
        with stack.bind(tenant):
            seed(tenant)
    connections.close_all()
    rest = SQLiteRest({**paths, None: home / "control.sqlite3"})
    rest.keep(TENANTS)
    return stack, rest
