import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from .needs import NEEDS, missing
from .redis import Redis
from .service import ServiceUnavailable

LACKING = 3  # exit code; 1 is what an exception gives, 2 a wrong command line
DEFAULT_HOME = Path(__file__).resolve().parents[2] / "var"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_redis() -> int:
    """Run the embedded default's Redis until a signal comes; 1 if it cannot start or ends by itself."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    if os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE"):
        say("REDIS_URL is set: the embedded Redis is not needed. Waiting for a signal, for honcho's sake.")
        stopped.wait()
        return 0
    try:
        with Redis(os.environ.get("BULKHEAD_HOME") or DEFAULT_HOME) as redis:
            say(f"Redis answers at {redis.url}")
            while redis.is_running():
                if stopped.wait(0.5):
                    return 0
            say("Redis ended by itself.")
    except ServiceUnavailable as error:
        say(str(error))
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tenants.embedded")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("redis", help="run the embedded default's Redis in the foreground")
    command = commands.add_parser("missing", help="name what the system lacks, and the Debian packages that have it")
    command.add_argument("what", nargs="+", choices=NEEDS)
    options = parser.parse_args()
    if options.command == "redis":
        return run_redis()
    lacking = missing(options.what)
    for line in lacking:
        say(line)
    return LACKING if lacking else 0


if __name__ == "__main__":
    raise SystemExit(main())
