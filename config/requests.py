"""
Requests are UTF-8, and their Content-Type cannot break them.

Django reads the query by the charset that the Content-Type names, inside the request's constructor, where no handler
of errors is yet: ``charset=rot13``, or an encoded parameter of an unknown charset, would end in the server's own 500.
"""

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.utils.http import parse_header_parameters


class _UTF8:
    def _set_content_type_params(self, meta):
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            meta["CONTENT_TYPE"] = self.content_type = ""
            self.content_params = {}


class UTF8WSGIRequest(_UTF8, WSGIRequest):
    pass


class UTF8ASGIRequest(_UTF8, ASGIRequest):
    pass
