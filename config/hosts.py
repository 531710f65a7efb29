"""The operator console and metrics on a host of their own, when ``BULKHEAD_OPERATOR_HOST`` names one: there alone."""

from django.conf import settings
from django.http.request import split_domain_port

from config.api import not_found

ON_EVERY_HOST = ("/static/", "/healthz", "/readyz")
OPERATORS = ("/operator", "/metrics")


class OperatorHostMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        """Where they are not, they are pages that nobody has. The host is the one in ``Host``."""
        path = request.path_info
        if settings.BULKHEAD_OPERATOR_HOST and not path.startswith(ON_EVERY_HOST):
            is_operators = split_domain_port(request.get_host())[0] == settings.BULKHEAD_OPERATOR_HOST
            if is_operators != (path in OPERATORS or path.startswith("/operator/")):
                return not_found(request)
        return self.get_response(request)
