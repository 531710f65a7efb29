"""The API's description and the page that shows it: for everybody, and the same whoever asks."""

from functools import cache

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView


class SchemaView(SpectacularAPIView):
    """
    Written once in each process: it takes a tenth of a second, and strangers may ask. Nothing of the query gets in;
    the library would write its ``version`` into a header.
    """

    @extend_schema(exclude=True)
    def get(self, request, *args, **kwargs):
        renderer = request.accepted_renderer
        return HttpResponse(
            _document(type(renderer)),
            content_type=f"{renderer.media_type}; charset=utf-8",
            headers={"Content-Disposition": f'inline; filename="bulkhead.{renderer.format}"'},
        )


class DocsView(SpectacularSwaggerSplitView):
    """Swagger UI, its script in a file of its own, and no form token in it: with that would come a cookie."""

    @extend_schema(exclude=True)
    def get(self, request, *args, **kwargs):
        response = super().get(request, *args, **kwargs)
        response.data["csrf_token"] = ""
        return response


@cache
def _document(renderer: type) -> bytes:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return renderer().render(schema, renderer_context={})
