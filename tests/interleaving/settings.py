"""The product's settings, with the machine's views and its job function."""

from config.settings import *  # noqa: F403
from config.settings import BULKHEAD_JOB_FUNCTIONS, LOGGING

ROOT_URLCONF = "tests.interleaving.urls"
BULKHEAD_JOB_FUNCTIONS = {*BULKHEAD_JOB_FUNCTIONS, "tests.interleaving.jobs.work"}
TENANT_RETIRE = "tests.interleaving.stacks.note_retirement"
# Thousands of refusals are provoked, and each is logged.
LOGGING = LOGGING | {
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["nowhere"], "level": "CRITICAL"},
}
