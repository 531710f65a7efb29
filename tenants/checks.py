"""System checks: what would undo isolation is an error before anything is served."""

from django.apps import apps
from django.conf import settings
from django.core.checks import Error, register
from django.utils.module_loading import import_string

from tenants.cached_pages import cached_routes
from tenants.models import TenantModel
from tenants.storage import PlaneStorage
from tenants.versions import VersionedModel

# What else stands in OPTIONS would undo a limit on waiting, or what the backend forbids, or seem to.
OPTIONS_OF_ENGINES = {
    "tenants.backends.mysql": {"ssl", "ssl_mode", "unix_socket", "isolation_level"},
    "tenants.backends.sqlite": set(),
}
CACHE_KEY = "tenants.caches.cache_key"
PLANE_MIDDLEWARE = "tenants.middleware.PlaneMiddleware"
INSIDE_PLANES = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)


@register("tenants")
def check_planes(app_configs=None, **kwargs):
    """Every app with models lives in a plane, and the lists name no app that is not there."""
    errors = []
    declared = {*settings.CONTROL_APPS, *settings.TENANT_APPS}
    for config in apps.get_app_configs():
        if config.models_module is not None and config.label not in declared:
            errors.append(
                Error(
                    f"App {config.label!r} has no plane.",
                    hint="Add it to CONTROL_APPS or TENANT_APPS in config/settings.py, or to both.",
                    id="tenants.E001",
                )
            )
    for label in sorted(declared - {config.label for config in apps.get_app_configs()}):
        errors.append(
            Error(
                f"CONTROL_APPS or TENANT_APPS names {label!r}, which is not installed.",
                hint="Remove it, or install the app.",
                id="tenants.E002",
            )
        )
    return errors


@register("tenants")
def check_wiring(app_configs=None, **kwargs):
    """The parts of the wall that stand in the settings."""
    errors = []
    if settings.INSTALLED_APPS[0] != "tenants":
        errors.append(
            Error(
                "'tenants' is not the first installed app.",
                hint="Put it first: it replaces parts of Django that later apps take hold of.",
                id="tenants.E003",
            )
        )
    if settings.DATABASE_ROUTERS != ["tenants.routers.PlaneRouter"]:
        errors.append(
            Error(
                "DATABASE_ROUTERS is not exactly the plane router.",
                hint='Set DATABASE_ROUTERS = ["tenants.routers.PlaneRouter"]: another would answer before or after it.',
                id="tenants.E004",
            )
        )
    for alias, database in settings.DATABASES.items():
        if alias not in ("default", "control"):
            errors.append(
                Error(
                    f"DATABASES names {alias!r}.",
                    hint="Only 'default' (no database) and 'control' stand there; tenants are found at runtime.",
                    id="tenants.E005",
                )
            )
        if alias == "control" and not database["ENGINE"].startswith("tenants.backends."):
            errors.append(
                Error(
                    f"The control database's engine {database['ENGINE']!r} is not guarded.",
                    hint="Use tenants.backends.sqlite or tenants.backends.mysql.",
                    id="tenants.E006",
                )
            )
    return errors


@register("tenants")
def check_models(app_configs=None, **kwargs):
    """What lives in tenants' databases alone has keys that mean one tenant's row, or is known by name not to."""
    return [
        Error(
            f"{model._meta.label} lives in tenants' databases and is no TenantModel.",
            hint="Derive it from tenants.models.TenantModel, or name it in ADOPTED_MODELS in config/settings.py.",
            id="tenants.E007",
        )
        for config in apps.get_app_configs()
        if config.label in settings.TENANT_APPS
        for model in config.get_models()
        if not issubclass(model, TenantModel) and model._meta.label not in settings.ADOPTED_MODELS
    ]


@register("tenants")
def check_versions(app_configs=None, **kwargs):
    """What people may change by ``settings.RIGHTS`` tells them when somebody else has changed it first."""
    changed = {name for table in settings.RIGHTS.values() for name, actions in table.items() if actions.get("change")}
    excused = {label.lower() for label in settings.UNVERSIONED_MODELS}
    unversioned = {model._meta.label_lower for model in apps.get_models() if not issubclass(model, VersionedModel)}
    return [
        Error(
            f"{name} may be changed by people, and has no version: the last one undoes what the first one wrote.",
            hint="Derive it from tenants.versions.VersionedModel, and what changes it from what tenants.edits has; or "
            "name it in UNVERSIONED_MODELS in config/settings.py, with the reason.",
            id="tenants.E018",
        )
        for name in sorted((changed & unversioned) - excused)
    ]


@register("tenants")
def check_shared_state(app_configs=None, **kwargs):
    """Parts of Django that keep something for the whole process, and would hand one tenant's to the next."""
    installed, middleware = settings.INSTALLED_APPS, " ".join(settings.MIDDLEWARE)
    serializers = [settings.SESSION_SERIALIZER, *(queue.get("SERIALIZER", "") for queue in settings.RQ_QUEUES.values())]
    faults = [
        (
            "E008",
            "django.contrib.sites" in installed,
            "'django.contrib.sites' is installed, and keeps one site for the whole process.",
            "Remove it.",
        ),
        (
            "E009",
            "CacheMiddleware" in middleware,
            "MIDDLEWARE caches whole pages, under keys that know no tenant.",
            "Remove UpdateCacheMiddleware and FetchFromCacheMiddleware.",
        ),
        (
            "E010",
            any(database.get("ATOMIC_REQUESTS") for database in settings.DATABASES.values()),
            "ATOMIC_REQUESTS is set, and would open a transaction before the request's plane is known.",
            "Remove it: the middleware makes one transaction per unsafe request, on the bound plane.",
        ),
        (
            "E011",
            any("pickle" in serializer.lower() or not serializer for serializer in serializers),
            "Sessions or queues are serialized with pickle: whoever can write them runs code.",
            "Use django.contrib.sessions.serializers.JSONSerializer and rq.serializers.JSONSerializer.",
        ),
    ]
    return [Error(msg, hint=hint, id=f"tenants.{number}") for number, is_wrong, msg, hint in faults if is_wrong]


@register("tenants")
def check_facets(app_configs=None, **kwargs):
    """What is ambient besides the database is each plane's own."""
    database = settings.DATABASES.get("control", {})
    allowed = OPTIONS_OF_ENGINES.get(database.get("ENGINE"))
    undone = sorted(set(database.get("OPTIONS", {})) - allowed) if allowed is not None else []
    keyless = [name for name, cache in settings.CACHES.items() if cache.get("KEY_FUNCTION") != CACHE_KEY]
    cached = [route for urls in {settings.ROOT_URLCONF, settings.WORKSPACE_URLCONF} for route in cached_routes(urls)]
    faults = [
        (
            "E012",
            keyless,
            f"The caches {', '.join(keyless)} give every tenant the same keys.",
            f'Set "KEY_FUNCTION": "{CACHE_KEY}" in each of CACHES.',
        ),
        (
            "E013",
            cached,
            f"cache_page is used on {', '.join(sorted(cached))}: it hands one visitor's page to the next.",
            "Remove it, and cache data in the view instead: keys of the cache are the tenant's own.",
        ),
        (
            "E014",
            undone,
            f"OPTIONS of the control database sets {', '.join(undone)}.",
            "Remove it: the backend limits every wait, and what the connection may do.",
        ),
        (
            "E015",
            not issubclass(import_string(settings.STORAGES["default"]["BACKEND"]), PlaneStorage),
            "STORAGES keeps every tenant's files in one place, under names that collide.",
            'Set STORAGES["default"] to {"BACKEND": "tenants.storage.PlaneStorage"}, or to a class derived from it.',
        ),
        (
            "E016",
            not _binds_before_sessions(settings.MIDDLEWARE),
            "MIDDLEWARE reads sessions, users or cookies before the request's plane is bound.",
            f"Put {PLANE_MIDDLEWARE!r} before {', '.join(path.rpartition('.')[2] for path in INSIDE_PLANES)}.",
        ),
        (
            "E017",
            settings.SESSION_ENGINE == "django.contrib.sessions.backends.file",
            "SESSION_ENGINE keeps every tenant's sessions in one directory.",
            "Use django.contrib.sessions.backends.db: sessions live in the plane's database.",
        ),
    ]
    return [Error(msg, hint=hint, id=f"tenants.{number}") for number, is_wrong, msg, hint in faults if is_wrong]


def _binds_before_sessions(middleware: list[str]) -> bool:
    later = [name for name in middleware if name == PLANE_MIDDLEWARE or name in INSIDE_PLANES]
    return later[:1] == [PLANE_MIDDLEWARE]
