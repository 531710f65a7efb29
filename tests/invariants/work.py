"""The smallest work there is in a tenant, here and in a process of its own."""

import os
import subprocess
import sys
from textwrap import dedent

from django.conf import settings

from scans.models import ScanProfile
from tenants.context import tenant_context


def add(name: str) -> ScanProfile:
    return ScanProfile.objects.create(name=name, engines={"ports": {}})


def names(slug: str) -> set[str]:
    with tenant_context(slug):
        return set(ScanProfile.objects.filter(name__startswith="row").values_list("name", flat=True))


def run_python(installation, code: str) -> str:
    """What ``code`` prints in a new process of this installation; it must end well."""
    control = settings.DATABASES["control"]
    kept = ("PATH", "PYTHON", "DJANGO", "COVERAGE")
    environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    environment |= {"BULKHEAD_HOME": str(installation.home), "BULKHEAD_REQUESTS_PER_MINUTE": "0"}
    if installation.engine == "mysql":
        login = f"{control['USER']}:{control['PASSWORD']}"
        environment["DATABASE_URL"] = f"mysql://{login}@{control['HOST']}:{control['PORT']}/{control['NAME']}"
    for source in settings.BULKHEAD_KEYS.values():
        environment[f"{source.variable}_FILE"] = str(source.path)
    code = "import django\ndjango.setup()\n" + dedent(code)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
