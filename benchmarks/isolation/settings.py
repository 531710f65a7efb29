"""The product, with models that plain Django has as well, and a job that does nothing."""

from config.settings import *  # noqa: F403
from config.settings import BULKHEAD_JOB_FUNCTIONS, INSTALLED_APPS, TENANT_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.isolation.rows"]
TENANT_APPS = [*TENANT_APPS, "rows"]
BULKHEAD_JOB_FUNCTIONS = BULKHEAD_JOB_FUNCTIONS | {"benchmarks.dispatching.starts.note"}
