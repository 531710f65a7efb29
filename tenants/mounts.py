"""What a site that is mounted below a path must not share with its neighbours in the same browser."""

from posixpath import normpath
from urllib.parse import unquote

from django.conf import settings
from django.http import HttpResponseBase

PLANE_COOKIES = ("sessionid", "csrftoken", "messages")
# Browsers take a cookie of such a name from no page without TLS. ``__Host-`` would want one path for all planes.
PREFIX = "__Secure-"


def read_cookies(request, plane: str, log_in_too: bool = True) -> None:
    """
    Django finds this plane's cookies under the names that it knows, and no other plane's.

    Without ``log_in_too`` only the CSRF cookie: whoever is logged in there is nobody for now.
    """
    for name in PLANE_COOKIES:
        request.COOKIES.pop(name, None)
        own = _own(name, plane)
        if own in request.COOKIES and (log_in_too or name == "csrftoken"):
            request.COOKIES[name] = request.COOKIES[own]


def stay_inside(mount: str, response: HttpResponseBase, plane: str) -> HttpResponseBase:
    """
    Cookies get this plane's names and path, and a redirect to anywhere else (``next=``) becomes one to the mount.
    """
    for name in PLANE_COOKIES:
        if (morsel := response.cookies.pop(name, None)) is not None:
            own = _own(name, plane)
            response.cookies[own] = morsel.value
            response.cookies[own].update(morsel)
            response.cookies[own]["path"] = mount
            if own.startswith(PREFIX):  # also where Django deletes it: without, browsers would keep it
                response.cookies[own]["secure"] = True
    if "Location" in response and not _is_inside(mount, response["Location"]):
        response["Location"] = mount
    return response


def _own(name: str, plane: str) -> str:
    return f"{PREFIX if settings.SESSION_COOKIE_SECURE else ''}{name}_{plane}"


def _is_inside(mount: str, location: str) -> bool:
    path = unquote(location.partition("?")[0].partition("#")[0])
    # Browsers read "\" as "/", drop control characters, and resolve dots, encoded or not, before they ask.
    return path.isprintable() and "\\" not in path and f"{normpath(path)}/".startswith(mount) and path.startswith(mount)
