"""The product's settings, with the hostile view, job function and command let in."""

from config.settings import *  # noqa: F403
from config.settings import BULKHEAD_JOB_FUNCTIONS, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.hostile"]
ROOT_URLCONF = "tests.hostile.urls"
BULKHEAD_JOB_FUNCTIONS = {*BULKHEAD_JOB_FUNCTIONS, "tests.hostile.doors.job"}
