"""
Real servers in a directory of their own: Redis for the embedded default, Redis and MariaDB for demo and tests.

Their data is thrown away on ``stop()``, so they are tuned for speed and never wait for a disk. They die with
the process that started them, however that one ends. Linux only; needs nothing but the standard library.
"""

from .mariadb import MariaDB
from .needs import missing
from .redis import Redis, redis_url
from .service import ServiceUnavailable

__all__ = ["MariaDB", "Redis", "ServiceUnavailable", "missing", "redis_url"]
