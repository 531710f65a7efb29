"""The system checks: each fault of the wall that stands in settings, by its id, with what to do."""

import pytest
from django.conf import settings as live
from django.core.checks import run_checks

from tenants.checks import check_models, check_planes, check_shared_state, check_wiring
from tenants.context import control_plane

FAULTS = {
    "E001": ("TENANT_APPS", lambda: [app for app in live.TENANT_APPS if app != "scans"], "'scans' has no plane"),
    "E002": ("CONTROL_APPS", lambda: [*live.CONTROL_APPS, "invoices"], "'invoices', which is not installed"),
    "E003": ("INSTALLED_APPS", lambda: [*live.INSTALLED_APPS[1:], "tenants"], "not the first installed app"),
    "E004": ("DATABASE_ROUTERS", lambda: [*live.DATABASE_ROUTERS, "x.Router"], "not exactly the plane router"),
    "E005": ("DATABASES", lambda: {**live.DATABASES, "acme": {"ENGINE": "x"}}, "names 'acme'"),
    "E006": ("DATABASES", lambda: {"control": {"ENGINE": "django.db.backends.sqlite3"}}, "not guarded"),
    "E007": ("ADOPTED_MODELS", lambda: [name for name in live.ADOPTED_MODELS if "Task" not in name], "scans.TaskQueue"),
    "E008": ("INSTALLED_APPS", lambda: [*live.INSTALLED_APPS, "django.contrib.sites"], "one site for the whole"),
    "E009": ("MIDDLEWARE", lambda: ["django.middleware.cache.UpdateCacheMiddleware"], "caches whole pages"),
    "E010": ("DATABASES", lambda: {"default": {"ENGINE": "", "ATOMIC_REQUESTS": True}}, "ATOMIC_REQUESTS is set"),
    "E011": ("RQ_QUEUES", lambda: {"default": {"SERIALIZER": "rq.serializers.PickleSerializer"}}, "pickle"),
}


@pytest.fixture
def with_setting(monkeypatch):
    """Without Django's signals: reloading apps or connections is not what is tested."""

    def change(name, value):
        monkeypatch.setattr(live._wrapped, name, value)
        monkeypatch.setitem(live.__dict__, name, value)

    return change


@pytest.mark.parametrize("number", FAULTS)
def test_a_fault_is_an_error_that_says_what_to_do(with_setting, number):
    setting, value, message = FAULTS[number]
    with_setting(setting, value())
    errors = [*check_planes(), *check_wiring(), *check_models(), *check_shared_state()]
    assert [error.id for error in errors] == [f"tenants.{number}"]
    assert message in errors[0].msg
    assert errors[0].is_serious()
    assert errors[0].hint


def test_the_installation_itself_has_none(installation):
    with control_plane():  # as under manage.py: checks of fields ask the router
        errors = run_checks()
    assert [error for error in errors if (error.id or "").startswith("tenants.")] == []
