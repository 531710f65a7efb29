"""
Which routed views cache whole pages: `cache_page` knows neither the bound tenant nor who asks.

What the decorator leaves is recognised: its middleware in a function's closure, or in that of a decorator of a class's
method. One that is applied while a request is answered is not; its entries have their plane's keys all the same.
"""

from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from django.middleware.cache import FetchFromCacheMiddleware, UpdateCacheMiddleware
from django.urls import URLPattern, URLResolver, get_resolver
from django.views import View

PAGE_CACHES = (UpdateCacheMiddleware, FetchFromCacheMiddleware)


def cached_routes(urlconf: str) -> list[str]:
    return [route for route, view in _routes(get_resolver(urlconf)) if _caches_pages(view)]


def _routes(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLPattern):
            yield route, pattern.callback
        else:
            yield from _routes(pattern, route)


def _caches_pages(view: Any) -> bool:
    seen: dict[int, Any] = {}
    todo = [view]
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, PAGE_CACHES) or (isinstance(part, type) and issubclass(part, PAGE_CACHES)):
            return True
        todo += _parts(part)
    return False


def _parts(part: Any) -> list[Any]:
    if isinstance(part, partial):
        return [part.func, *part.args]
    if isinstance(part, list | tuple):
        return list(part)
    if isinstance(part, MethodType):
        return [part.__func__]
    if isinstance(part, FunctionType):
        # ``cls`` of a class-based view is in the closure too, and in no other place.
        return [part.__dict__.get("__wrapped__"), *(_content(cell) for cell in part.__closure__ or ())]
    if isinstance(part, type) and issubclass(part, View):
        return [each for kind in part.__mro__ for each in vars(kind).values()]
    return []


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
