"""The system checks: each fault of the wall that stands in settings, by its id, with what to do."""

import pytest
from django.conf import settings as live
from django.core.checks import run_checks

from tenants.checks import (
    check_facets,
    check_models,
    check_planes,
    check_shared_state,
    check_versions,
    check_wiring,
)
from tenants.context import control_plane
from tenants.storage import PlaneStorage

FAULTS = {
    "E001": ("TENANT_APPS", lambda: [app for app in live.TENANT_APPS if app != "scans"], "'scans' has no plane"),
    "E002": ("CONTROL_APPS", lambda: [*live.CONTROL_APPS, "invoices"], "'invoices', which is not installed"),
    "E003": ("INSTALLED_APPS", lambda: [*live.INSTALLED_APPS[1:], "tenants"], "not the first installed app"),
    "E004": ("DATABASE_ROUTERS", lambda: [*live.DATABASE_ROUTERS, "x.Router"], "not exactly the plane router"),
    "E005": ("DATABASES", lambda: {**live.DATABASES, "acme": {"ENGINE": "x"}}, "names 'acme'"),
    "E006": ("DATABASES", lambda: {"control": {"ENGINE": "django.db.backends.sqlite3"}}, "not guarded"),
    "E007": ("ADOPTED_MODELS", lambda: [name for name in live.ADOPTED_MODELS if "Task" not in name], "scans.TaskQueue"),
    "E008": ("INSTALLED_APPS", lambda: [*live.INSTALLED_APPS, "django.contrib.sites"], "one site for the whole"),
    "E009": (
        "MIDDLEWARE",
        lambda: [*live.MIDDLEWARE, "django.middleware.cache.UpdateCacheMiddleware"],
        "caches whole pages",
    ),
    "E010": ("DATABASES", lambda: {"default": {"ENGINE": "", "ATOMIC_REQUESTS": True}}, "ATOMIC_REQUESTS is set"),
    "E011": ("RQ_QUEUES", lambda: {"default": {"SERIALIZER": "rq.serializers.PickleSerializer"}}, "pickle"),
    "E012": ("CACHES", lambda: {**live.CACHES, "pages": {"BACKEND": LOCAL}}, "caches pages give every tenant"),
    "E013": ("ROOT_URLCONF", lambda: "tests.tenants.cached_views", "function/, hidden/class/, method/, named/"),
    "E014": ("DATABASES", lambda: {"control": {"ENGINE": MYSQL, "OPTIONS": {"read_timeout": 0}}}, "sets read_timeout"),
    "E015": ("STORAGES", lambda: {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}, "one place"),
    "E016": ("MIDDLEWARE", lambda: sorted(live.MIDDLEWARE, key=lambda path: "Plane" in path), "plane is bound"),
    "E017": ("SESSION_ENGINE", lambda: "django.contrib.sessions.backends.file", "one directory"),
    "E018": ("RIGHTS", lambda: {"tenant": {"scans.scanprofile": {"change": ("owner",)}}}, "scans.scanprofile may be"),
}
CACHE = "django.middleware.cache"
LOCAL, MYSQL = "django.core.cache.backends.locmem.LocMemCache", "tenants.backends.mysql"


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
    errors = [*check_planes(), *check_wiring(), *check_models(), *check_shared_state(), *check_facets()]
    errors += check_versions()
    assert [error.id for error in errors] == [f"tenants.{number}"]
    assert message in errors[0].msg
    assert errors[0].is_serious()
    assert errors[0].hint


OTHER_FORMS = {
    "a cache with a key function of its own": ("CACHES", {"default": {"KEY_FUNCTION": "x.key"}}, ["E012"]),
    "no plane middleware": ("MIDDLEWARE", ["django.contrib.sessions.middleware.SessionMiddleware"], ["E016"]),
    "no middleware": ("MIDDLEWARE", [], ["E016"]),
    "SQLite that waits for an hour": (
        "DATABASES",
        {"control": {"ENGINE": "tenants.backends.sqlite", "OPTIONS": {"timeout": 3600}}},
        ["E014"],
    ),
    "a client's own configuration file": (
        "DATABASES",
        {"control": {"ENGINE": MYSQL, "OPTIONS": {"read_default_file": "/etc/my.cnf", "ssl_mode": "REQUIRED"}}},
        ["E014"],
    ),
    "an encrypted connection": ("DATABASES", {"control": {"ENGINE": MYSQL, "OPTIONS": {"ssl": {"ca": "x"}}}}, []),
    "storage derived from ours": ("STORAGES", {"default": {"BACKEND": f"{__name__}.Derived"}}, []),
}


class Derived(PlaneStorage):
    pass


@pytest.mark.parametrize(("setting", "value", "numbers"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_other_forms_of_these_faults(with_setting, setting, value, numbers):
    with_setting(setting, value)

    assert [error.id for error in check_facets()] == [f"tenants.{number}" for number in numbers]


def test_the_installation_itself_has_none(installation):
    with control_plane():  # as under manage.py: checks of fields ask the router
        errors = run_checks()
    assert [error for error in errors if (error.id or "").startswith("tenants.")] == []
