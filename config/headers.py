"""What every answer tells browsers: what it may load and run, who may hold it, and that it is kept nowhere."""

from functools import cache

from django.conf import settings

from config.api_docs import DocsView
from scans.report import style_source

DOCS = "/api/docs/"
SITES = ("/t/", "/operator/")

NOTHING = "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
# Of what is no page nothing runs, wherever it is opened: ``sandbox`` gives it an origin of its own.
DATA_POLICY = f"{NOTHING}; form-action 'none'; sandbox"
OWN_FILES = "script-src 'self'; img-src 'self' data:; connect-src 'self'"
SITE_POLICY = f"{NOTHING}; {OWN_FILES}; style-src 'self'; form-action 'self'"

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class HeadersMiddleware:
    """
    Outside whatever answers by itself, so that refusals and redirects carry the headers as well.

    A view may set a ``Content-Security-Policy`` of its own, and nothing else of these.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response[name] = value
        response.headers.setdefault("Content-Security-Policy", policy_of(request.path))
        if not request.path.startswith(settings.STATIC_URL) or "Cache-Control" not in response:
            # Of files that are there WhiteNoise has said how long they are good.
            response["Cache-Control"] = "no-store"
        return response


def policy_of(path: str) -> str:
    if path == DOCS:
        return _docs_policy()
    return SITE_POLICY if path.startswith(SITES) else DATA_POLICY


@cache
def _docs_policy() -> str:
    return f"{NOTHING}; {OWN_FILES}; style-src 'self' {style_source(DocsView.template_name)}; form-action 'none'"
