"""
``python -m tests.tenants.killing_creation SLUG STEP before|after``: a creation that is killed at a step of its journal,
before or after that is committed.
"""

import os
import signal
import sys

import django

django.setup()

from django.db import transaction  # noqa: E402

from tenants import services  # noqa: E402

slug, last_step, when = sys.argv[1:]
journal = services.journal


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killing(tenant, action, step, detail=""):
    journal(tenant, action, step, detail)
    if step == last_step:
        kill() if when == "before" else transaction.on_commit(kill)


services.journal = killing
services.create_tenant(slug=slug)
