import re

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import LimitOffsetPagination


class Pagination(LimitOffsetPagination):
    """``limit`` and ``offset``. A page has at most 200 rows, whatever is asked for; what is no number is refused."""

    default_limit = 50
    max_limit = 200
    max_offset = 2**31 - 1

    def get_limit(self, request):
        return min(_number(request, "limit", self.default_limit, least=1), self.max_limit)

    def get_offset(self, request):
        offset = _number(request, "offset", 0, least=0)
        if offset > self.max_offset:
            raise ValidationError({"offset": f"At most {self.max_offset}."})
        return offset


def _number(request, name: str, default: int, least: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) < least:
        raise ValidationError({name: f"A whole number, at least {least}."})
    return int(text)
