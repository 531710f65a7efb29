"""
An installation with tenants who ask for scans and idle ones: `python -m benchmarks.dispatching.prepare`.

The first ``--active`` are made in full, each with a user and a target. The idle ones have the tables that a
dispatcher looks at.
"""

import argparse
import json
import logging
from datetime import timedelta

import django

django.setup()

from django.utils import timezone  # noqa: E402

from benchmarks.isolation.prepare import make_databases, make_home, make_tenant, register, write_about  # noqa: E402
from scans.models import Authorization, Target  # noqa: E402
from tenants.accounts.models import User  # noqa: E402
from tenants.context import tenant_context  # noqa: E402

LOOKED_AT = ["rows_outbox", "scans_scan", "scans_scancounter", "scans_taskqueue"]


def make_active(slug):
    tenant = make_tenant(slug)
    with tenant_context(tenant):
        user = User.objects.create_user("alice", role="owner")
        target = Target.objects.create(name="here", host="127.0.0.1", ports=[80], created_by=user)
        Authorization.objects.create(
            target=target, statement="benchmark", expires_at=timezone.now() + timedelta(days=1), created_by=user
        )
    return tenant


def main():
    make_home(options.server)
    active = [make_active(f"active{n}") for n in range(options.active)]
    idle = register(active[0], options.tenants - options.active + 1)
    make_databases(active[0], idle, LOOKED_AT)
    write_about([*active, *idle])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--tenants", type=int, required=True)
    parser.add_argument("--active", type=int, required=True)
    parser.add_argument("--server", type=json.loads)
    options = parser.parse_args()
    logging.disable()
    main()
