"""Views that do to their binding whatever views may do; the URL configuration of the middleware's tests."""

import asyncio
import contextvars
import os
from concurrent.futures import ThreadPoolExecutor

from django.db import OperationalError, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import get_urlconf, path, reverse
from django.views.decorators.csrf import csrf_exempt

import config.urls
from scans.models import ScanProfile, Target
from scans.services import request_scan
from tenants.context import control_plane, tenant_context
from tenants.exceptions import NoTenantError, TenantSuspendedError
from tenants.planes import _bound, current
from tests.tenants.streams import stream_urls


def where(request):
    return JsonResponse({"bound": str(current() or "nothing"), "here": reverse("where"), "urlconf": str(get_urlconf())})


async def where_async(request):
    await asyncio.sleep(0)
    return where(request)


@csrf_exempt
def write(request, status):
    ScanProfile.objects.create(name="written", engines={})
    return HttpResponse(status=status)


@csrf_exempt
async def write_async(request, status):
    await ScanProfile.objects.acreate(name="written", engines={})
    return HttpResponse(status=status)


announced: list[int] = []


@csrf_exempt
def announce(request, status):
    """Writes a row and, once that has committed, says how many of them others can read."""
    ScanProfile.objects.create(name=f"announced {status}", engines={})
    transaction.on_commit(lambda: announced.append(read_by_others()))
    return HttpResponse(status=status)


def read_by_others():
    def read():
        with tenant_context("acme"):
            return ScanProfile.objects.filter(name__startswith="announced").count()

    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(read).result()


@csrf_exempt
def ask_for_a_scan(request, status):
    target = Target.objects.get()
    request_scan(target=target, profile=ScanProfile.objects.get(name="standard"), user=target.created_by)
    return HttpResponse(status=status)


@csrf_exempt
def write_and_crash(request):
    ScanProfile.objects.create(name="written", engines={})
    raise ValueError("a bug")


@csrf_exempt
async def write_and_crash_async(request):
    await ScanProfile.objects.acreate(name="written", engines={})
    raise ValueError("a bug")


@csrf_exempt
def swallow_a_broken_transaction(request):
    ScanProfile.objects.create(name="written", engines={})
    transaction.set_rollback(True)  # what the backend does after a deadlock
    return HttpResponse(status=202)


@csrf_exempt
def leave_a_transaction_open(request):
    transaction.atomic().__enter__()
    ScanProfile.objects.create(name="written", engines={})
    return HttpResponse()


@csrf_exempt
def exit_the_process(request):
    raise SystemExit(3)


@csrf_exempt
def fail(request, error):
    raise {"database": OperationalError("gone away"), "tenant": TenantSuspendedError("acme"), "bug": NoTenantError()}[
        error
    ]


def leave_a_plane_bound(request):
    control_plane().__enter__()
    return HttpResponse()


def bound_to(slug):
    """What is bound where somebody else has bound ``slug``: cheating needs one."""

    def enter():
        with tenant_context(slug):
            return current()

    return contextvars.Context().run(enter)


def rebind(request):
    """Cheats: the rest of the request, and whoever comes after it in this thread, is globex's."""
    _bound.set(bound_to("globex"))
    return pid(request)


def rebind_in_a_step(request):
    def body():
        yield f"{os.getpid()}\n"
        _bound.set(bound_to("globex"))
        yield "cheated\n"
        yield f"{current()}\n"

    return StreamingHttpResponse(body())


def pid(request):
    return JsonResponse({"bound": str(current() or "nothing"), "pid": os.getpid()})


def crash(request):
    raise ValueError("a bug")


VIEWS = [
    path("where/", where, name="where"),
    path("where-async/", where_async),
    path("write/<int:status>/", write),
    path("write-async/<int:status>/", write_async),
    path("announce/<int:status>/", announce),
    path("ask-for-a-scan/<int:status>/", ask_for_a_scan),
    path("write-and-crash/", write_and_crash),
    path("write-and-crash-async/", write_and_crash_async),
    path("swallow/", swallow_a_broken_transaction),
    path("leave-open/", leave_a_transaction_open),
    path("exit/", exit_the_process),
    path("fail/<str:error>/", fail),
    path("leave-bound/", leave_a_plane_bound),
    path("rebind/", rebind),
    path("rebind-in-a-step/", rebind_in_a_step),
    path("pid/", pid),
    path("crash/", crash),
    *stream_urls,
]
urlpatterns = [
    *VIEWS,
    *(
        path(f"{prefix}{view.pattern}", view.callback)
        for prefix in ("api/v1/", "operator/", "readyz/")
        for view in VIEWS
    ),
    *config.urls.urlpatterns,
]
