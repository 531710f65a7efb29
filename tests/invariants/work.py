"""The smallest work there is in a tenant: a row with a name, and which rows with such names a tenant has."""

from scans.models import ScanProfile
from tenants.context import tenant_context


def add(name: str) -> ScanProfile:
    return ScanProfile.objects.create(name=name, engines={"ports": {}})


def names(slug: str) -> set[str]:
    with tenant_context(slug):
        return set(ScanProfile.objects.filter(name__startswith="row").values_list("name", flat=True))
