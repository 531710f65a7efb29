"""The job function of the machine: it reads what there is and leaves the canary that it was given."""

from scans.models import Target
from tests.interleaving.canaries import shared_key

performed: list[tuple[str, list[str]]] = []


def work(mark: str) -> None:
    names = list(Target.objects.values_list("name", flat=True))
    Target.objects.filter(pk=shared_key(4)).update(name=mark)
    performed.append((mark, names))
