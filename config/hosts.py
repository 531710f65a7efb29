"""The operator console on a host of its own, and nothing else there, when ``BULKHEAD_OPERATOR_HOST`` names one."""

from django.conf import settings
from django.http.request import split_domain_port

from config.api import not_found

ON_EVERY_HOST = ("/static/", "/healthz", "/readyz")


class OperatorHostMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        """Where it is not, the console is a page that nobody has. The host is the one in ``Host``."""
        path = request.path_info
        if settings.BULKHEAD_OPERATOR_HOST and not path.startswith(ON_EVERY_HOST):
            is_operators = split_domain_port(request.get_host())[0] == settings.BULKHEAD_OPERATOR_HOST
            if is_operators != (path == "/operator" or path.startswith("/operator/")):
                return not_found(request)
        return self.get_response(request)
