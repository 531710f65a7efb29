"""The product's URLs, and what it does not have: a body that is read in steps, a view that writes and then refuses."""

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

import config.urls
from scans.models import Target
from tests.interleaving.canaries import shared_key


def stream(request):
    def body():
        yield "targets:"
        for target in Target.objects.order_by("id").iterator(chunk_size=2):
            yield target.name

    return StreamingHttpResponse(body())


async def stream_async(request):
    async def body():
        yield "targets:"
        async for target in Target.objects.order_by("id").aiterator(chunk_size=2):
            yield target.name

    return StreamingHttpResponse(body())


@csrf_exempt
def write(request, status):
    """Renames the first target, and answers ``status``."""
    Target.objects.filter(pk=shared_key(1)).update(name=request.body.decode())
    return HttpResponse(status=status)


urlpatterns = [
    path("api/v1/machine/stream/", stream),
    path("api/v1/machine/stream-async/", stream_async),
    path("api/v1/machine/write/<int:status>/", write),
    *config.urls.urlpatterns,
]
handler400, handler404, handler500 = config.urls.handler400, config.urls.handler404, config.urls.handler500
