"""The product, and one model that plain Django has as well."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, TENANT_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.isolation.rows"]
TENANT_APPS = [*TENANT_APPS, "rows"]
