"""The three doors by which hostile code comes in: a view, a job function and a command. Each is bound to acme."""

import io
import json
from pathlib import Path

import django_rq
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.http import JsonResponse
from rest_framework.test import APIClient

from tenants.context import control_plane, tenant_context
from tenants.jobs import TenantJob
from tenants.planes import current
from tenants.secrets import give_up_fleet_key
from tenants.tokens import TenantRefreshToken
from tests.hostile.mechanism import Aim
from tests.hostile.mechanisms import MECHANISMS


class Outcome:
    """What came of the attack in this process, noted beside whatever the door makes of it."""

    aims: dict[str, Aim] = {}
    is_control = False
    noted: list[dict] = []  # the first is the order's own; others are of what it set going


def aims_of(world: dict) -> dict[str, Aim]:
    return {name: Aim(**fields | {"path": Path(fields["path"])}) for name, fields in world.items()}


def attack_of(name: str | None):
    if name is None:
        return lambda aim: sorted(Group.objects.values_list("name", flat=True))
    mechanism = MECHANISMS[name]
    return mechanism.control if Outcome.is_control and mechanism.control else mechanism.attack


def commit(order: str) -> str:
    """Carries out an order, ``{"mechanism", "aim", "world"}`` in JSON. Errors go on to whoever called."""
    order = json.loads(order)
    aims = Outcome.aims or aims_of(order["world"])
    attack = attack_of(order["mechanism"])
    noted = {"bound": str(current())}
    Outcome.noted.append(noted)
    try:
        got = repr(attack(aims[order["aim"]]))
    except BaseException as error:
        noted |= described(error)
        raise
    noted["got"] = got
    return got


def described(error: BaseException) -> dict:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else None
    return {"error": type(error).__name__, "code": code, "message": str(error)}


def view(request):
    return JsonResponse({"got": commit(request.GET["order"])})


def tell(request):
    """As ``view``, with the error's name for those who are outside the process."""
    try:
        return view(request)
    except Exception as error:
        return JsonResponse(described(error), status=418)


def job(order: str) -> None:
    commit(order)


def through_view(order: str) -> str:
    give_up_fleet_key()
    with tenant_context("acme"):
        token = str(TenantRefreshToken.for_user(get_user_model().objects.get(username="alice")).access_token)
    client = APIClient(raise_request_exception=False, SERVER_NAME="localhost")
    response = client.get("/api/v1/hostile/", {"order": order}, headers={"Authorization": f"Bearer {token}"})
    return response.content.decode()


def through_job(order: str) -> str:
    """Written to Redis and read back, as a worker does."""
    give_up_fleet_key()
    broker = django_rq.get_connection("default")
    with tenant_context("acme"):
        made = django_rq.get_queue("default").enqueue(job, order, job_timeout=-1)
    return repr(TenantJob.fetch(made.id, connection=broker).perform())


def through_command(order: str) -> str:
    """As under ``manage.py``, which binds control around it; and with the fleet key, which commands hold."""
    out = io.StringIO()
    with control_plane():
        call_command("tenant_command", "acme", "hostile", order, stdout=out, stderr=out)
    return out.getvalue()


THROUGH = {"view": through_view, "job": through_job, "command": through_command}
