"""What the API's description says of every operation alike: the token, and how errors look."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers


class ErrorSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="stable, for programs")
    detail = serializers.CharField(help_text="for people")


class InvalidSerializer(ErrorSerializer):
    errors = serializers.DictField(  # type: ignore[assignment]  # a serializer's own errors are not asked for here
        required=False, help_text="by field: what is wrong with it, as message and code. Not of what could not be read"
    )


class PlaneAuthenticationScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.authentication.PlaneAuthentication"
    name = "bearerAuth"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class Schema(AutoSchema):
    """DRF's schema class of every view: this module is loaded, and the scheme above known, before one is described."""

    def get_operation(self, path, *args, **kwargs):
        operation = super().get_operation(path, *args, **kwargs)
        if operation is not None:
            for status, (serializer, words) in self._errors(path, operation).items():
                reference = self.resolve_serializer(serializer, "response").ref
                operation["responses"].setdefault(
                    status, {"description": words, "content": {"application/json": {"schema": reference}}}
                )
        return operation

    def _errors(self, path: str, operation: dict) -> dict[str, tuple[type[serializers.Serializer], str]]:
        has_body = "requestBody" in operation
        is_renewal = path.startswith("/api/v1/token/") and path != "/api/v1/token/"
        is_log_in = path.startswith("/api/v1/token/")
        errors = {
            "400": (InvalidSerializer, "Not valid, or malformed.", True),
            "401": (ErrorSerializer, "The token or the log-in is not valid.", True),
            "403": (
                ErrorSerializer,
                "The role does not allow it, or the organisation is suspended.",
                True,
            ),
            "404": (ErrorSerializer, "There is none, or it is not yours.", "{" in path),
            "406": (ErrorSerializer, "`Accept` asks for what there is not.", True),
            "409": (ErrorSerializer, "Not as things are: `code` says why.", self.method != "GET" and not is_log_in),
            "413": (ErrorSerializer, "The body is too large.", has_body),
            "415": (ErrorSerializer, "The body is no JSON.", has_body),
            "429": (ErrorSerializer, "Asked too often: again after `Retry-After` seconds.", not is_renewal),
            "503": (ErrorSerializer, "Try again after `Retry-After` seconds.", True),
        }
        return {status: (serializer, words) for status, (serializer, words, occurs) in errors.items() if occurs}
