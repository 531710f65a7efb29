"""Views that cache pages in every way that is known, and views that do not."""

from django.http import HttpResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page, never_cache
from django.views.decorators.csrf import csrf_exempt


def plain(request):
    return HttpResponse()


class OfMethod(View):
    @method_decorator([never_cache, cache_page(60)])
    def get(self, request):
        return HttpResponse()


@method_decorator(cache_page(60), name="dispatch")
class Named(View):
    pass


class Plain(View):
    @method_decorator(never_cache)
    def get(self, request):
        return HttpResponse()


urlpatterns = [
    path("function/", csrf_exempt(cache_page(60)(plain))),
    path("hidden/", include([path("class/", cache_page(60)(Plain.as_view()))])),
    path("method/", OfMethod.as_view()),
    path("named/", Named.as_view()),
    path("plain/", never_cache(plain)),
    path("plain-class/", Plain.as_view()),
]
