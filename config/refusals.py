"""What is refused before anything looks at it."""

from django.conf import settings
from django.core.exceptions import BadRequest

from config.api import HttpsRequired, MethodUnknown, error_response

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
API, DOCS, METRICS = "/api/", "/api/docs/", "/metrics"


class RefusalsMiddleware:
    """
    Methods that nothing here has: Django's admin pages would answer TRACE like GET. Programs that ask without TLS
    where it is used: a redirect would hide that a token went in clear. A parameter of the API that is there twice.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        is_api = request.path.startswith(API) and request.path != DOCS
        if request.method not in METHODS:
            response = error_response(request, MethodUnknown())
            response["Allow"] = ", ".join(METHODS)
            return response
        if (is_api or request.path == METRICS) and settings.SECURE_SSL_REDIRECT and not request.is_secure():
            return error_response(request, HttpsRequired())
        if is_api and any(len(values) > 1 for _, values in request.GET.lists()):
            return error_response(request, BadRequest())
        return self.get_response(request)
