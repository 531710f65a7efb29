"""
Which variable may hold the bound tenant: 400 requests of 12 tenants, 20 at a time, through Django's own ASGI handler.

    python benchmarks/binding_variable.py

Each request notes its tenant in a ``threading.local`` and in a ``ContextVar``, waits, goes through sync_to_async as
every ORM call does, and looks at both. The settings are made here: no database is involved.
"""

import asyncio
import threading
from contextvars import ContextVar

from asgiref.sync import sync_to_async
from django.conf import settings

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[f"{__name__}.bind"])

import django  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.decorators import async_only_middleware  # noqa: E402

REQUESTS, AT_ONCE, TENANTS = 400, 20, 12
local = threading.local()
variable: ContextVar[str | None] = ContextVar("tenant", default=None)


@async_only_middleware
def bind(get_response):
    async def middleware(request):
        local.tenant = request.GET["tenant"]
        token = variable.set(request.GET["tenant"])
        try:
            return await get_response(request)
        finally:
            local.tenant = None
            variable.reset(token)

    return middleware


def seen():
    return {"threading.local": getattr(local, "tenant", None), "ContextVar": variable.get()}


async def view(request):
    await asyncio.sleep(0.001)
    return JsonResponse({"in a thread": await sync_to_async(seen)(), "in the loop": seen()})


urlpatterns = [path("", view)]


async def main():
    django.setup()
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(number):
        tenant = f"tenant-{number % TENANTS}"
        async with gate:
            answer = (await AsyncClient().get("/", {"tenant": tenant})).json()
        return [(where, kind, tenant, got) for where, both in answer.items() for kind, got in both.items()]

    rows = [row for rows in await asyncio.gather(*map(ask, range(REQUESTS))) for row in rows]
    for kind in ("threading.local", "ContextVar"):
        for where in ("in a thread", "in the loop"):
            mine = [(tenant, got) for at, what, tenant, got in rows if (at, what) == (where, kind)]
            lost = sum(got is None for _, got in mine)
            wrong = sum(got not in (None, tenant) for tenant, got in mine)
            print(f"{kind:<16} {where}: {len(mine)} requests, {wrong} in another tenant, {lost} in none")


if __name__ == "__main__":
    import sys

    sys.modules["binding_variable"] = sys.modules[__name__]
    asyncio.run(main())
