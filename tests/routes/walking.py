"""Every route that there is, as the URL configurations say: nobody lists them by hand."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

WORKSPACE = "/t/<slug>/"
OPERATOR = "/operator/"
API = "/api/v1/"
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """``/t/<slug>/scans/scan/<path:object_id>/change/``: as it stands in docs/reference/routes.md."""

    name: str

    @property
    def mount(self) -> str:
        """Where it belongs: what opens it, and what it answers to whom."""
        return next((mount for mount in (WORKSPACE, OPERATOR, API) if self.name.startswith(mount)), "/")

    @property
    def parameters(self) -> dict[str, str]:
        """Name to the segment before it, which says what it is the id of. The tenant's slug is none of them."""
        found = {}
        for match in PARAMETER.finditer(self.name):
            if match.end() != len("/t/<slug>") or not self.name.startswith(WORKSPACE):
                found[match[1]] = self.name[: match.start()].rstrip("/").rpartition("/")[2]
        return found

    def path(self, slug: str = "acme", **values: str) -> str:
        return PARAMETER.sub(lambda match: (values | {"slug": values.get("slug", slug)})[match[1]], self.name)


def all_routes() -> list[Route]:
    names = [f"/{name}" for name in _names(get_resolver(settings.ROOT_URLCONF))]
    names += [WORKSPACE + name for name in _names(get_resolver(settings.WORKSPACE_URLCONF))]
    return [Route(name) for name in dict.fromkeys(names)]


def _names(resolver: URLResolver, before: str = "") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        # A regular expression is written as a path is: without its anchors, and a group by its name.
        name = before + re.sub(r"\(\?P(<\w+>)[^)]*\)", r"\1", str(pattern.pattern)).lstrip("^").rstrip("$")
        if isinstance(pattern, URLPattern):
            yield name
        else:
            yield from _names(pattern, name)
