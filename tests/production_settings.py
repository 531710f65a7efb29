"""Settings of an installation that people use, one part of it at a time: tests must not start with them."""

import os

from config.settings import *  # noqa: F403
from config.settings import DATABASES, RQ_QUEUES

match os.environ.get("PRODUCTION"):
    case "home":
        BULKHEAD_HOME = "/srv/bulkhead"
    case "file":
        DATABASES["control"]["NAME"] = "/srv/bulkhead/control.sqlite3"
    case "server":
        DATABASES["control"] |= {"ENGINE": "tenants.backends.mysql", "NAME": "bulkhead", "HOST": "db.example"}
    case "Redis":
        RQ_QUEUES["default"]["URL"] = "redis://redis.example:6379/0"
