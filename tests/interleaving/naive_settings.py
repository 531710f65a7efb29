"""The same applications under the router that most people write first: an alias per tenant, and no guard."""

import os
from pathlib import Path

os.environ.setdefault("BULKHEAD_HOME", "/nonexistent")

from config.settings import *  # noqa: E402, F403
from config.settings import INSTALLED_APPS, MIDDLEWARE, REST_FRAMEWORK  # noqa: E402

HOME = Path(os.environ["BULKHEAD_HOME"])
TENANTS = 16


def _database(name: str) -> dict:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": HOME / f"{name}.sqlite3"}


DATABASES = {"default": _database("control")} | {
    f"deck{number:02d}": _database(f"deck{number:02d}") for number in range(TENANTS)
}
DATABASE_ROUTERS = ["tests.interleaving.naive.Router"]
INSTALLED_APPS = ["tests.interleaving.naive_apps.TenantsWithoutGuards", *INSTALLED_APPS[1:]]
MIDDLEWARE = [
    "tests.interleaving.naive.Middleware" if name == "tenants.middleware.PlaneMiddleware" else name
    for name in MIDDLEWARE
    if name not in ("config.headers.HeadersMiddleware", "config.refusals.RefusalsMiddleware")
]
REST_FRAMEWORK = REST_FRAMEWORK | {"DEFAULT_AUTHENTICATION_CLASSES": ["tests.interleaving.naive.Authentication"]}
ROOT_URLCONF = "tests.interleaving.urls"
LOGGING_CONFIG = None
