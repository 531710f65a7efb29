"""Bodies are JSON objects, read strictly: what two readers could understand differently is refused."""

import json
import math
from typing import Any

from django.conf import settings
from rest_framework.exceptions import APIException, NotAcceptable, ParseError, UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser

MAX_DEPTH = 16


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "too_large"
    default_detail = f"A body has at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."


class Negotiation(DefaultContentNegotiation):
    def select_renderer(self, request, renderers, format_suffix=None):
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except ValueError:  # an Accept header that Django cannot read
            raise NotAcceptable from None


class StrictJSONParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream, media_type=None, parser_context=None) -> dict[str, Any]:
        """Raises ``ParseError``, ``BodyTooLarge`` and ``UnsupportedMediaType``."""
        charset = parser_context["request"].content_params.get("charset", "utf-8")
        if charset.lower() != "utf-8":
            raise UnsupportedMediaType(media_type, "JSON is UTF-8.")
        body = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise BodyTooLarge
        try:
            data = json.loads(
                body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float
            )
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8.") from None
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except json.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from None
        except ValueError:  # a whole number of thousands of digits
            raise ParseError("The body has a number that is too long.") from None
        if not isinstance(data, dict):
            raise ParseError("The body is not a JSON object.")
        _check(data)
        return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ParseError("An object has two members of one name.")
    return data


def _refuse_constant(text: str) -> None:
    raise ParseError(f"{text} is not JSON.")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ParseError("A number is out of range.")
    return number


def _check(value: Any, depth: int = 1) -> None:
    if depth > MAX_DEPTH:
        raise ParseError("The body is nested too deeply.")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1)


def _check_text(text: str) -> None:
    """NUL is stored differently by each database, and half a surrogate pair by none."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ParseError("A text has a character that cannot be stored.")
