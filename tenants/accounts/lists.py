"""Lists of rows on both sites: what may be asked of them."""

from django.core.exceptions import BadRequest, ValidationError


class OfferedAlone:
    """
    Every list of rows is filtered by what its page offers. Django takes any lookup of any column from the address,
    digests included, and fails at values that the database or Python has no such thing for.
    """

    def lookup_allowed(self, lookup, value, request):
        name, _, way = lookup.partition("__")
        return name in self.get_list_filter(request) and way in ("", "exact", "id__exact", "isnull")

    def response_action(self, request, queryset):
        try:
            return super().response_action(request, queryset)
        except ValidationError as error:
            raise BadRequest("What was selected is no row's key.") from error
