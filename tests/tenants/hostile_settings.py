"""The service with views and jobs that cheat, for servers of their own."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = WORKSPACE_URLCONF = "tests.tenants.plane_views"
BULKHEAD_JOB_FUNCTIONS = {"tests.tenants.test_sentinel.cheat", "tests.tenants.test_sentinel.note"}
