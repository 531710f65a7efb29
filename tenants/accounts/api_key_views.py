"""A member's API keys: `api-keys/`. An owner sees and revokes everybody's."""

from datetime import timedelta

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

from tenants.accounts.api_keys import LONGEST_LIFE, make_key, revoke_key
from tenants.accounts.models import ApiKey, User


class ApiKeySerializer(serializers.ModelSerializer):
    class Meta:
        model = ApiKey
        fields = [
            "id", "user", "name", "prefix", "scope", "created_at", "expires_at", "last_used_at", "revoked_at",
        ]  # fmt: skip
        read_only_fields = ["user"]

    def validate_expires_at(self, value):
        now = timezone.now()
        if not now < value <= now + LONGEST_LIFE:
            raise serializers.ValidationError(f"In the future, and at most {LONGEST_LIFE // timedelta(days=1)} days.")
        return value


class MadeApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(read_only=True, help_text="Shown this once.")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]


class ApiKeys(generics.GenericAPIView):
    serializer_class = ApiKeySerializer
    resource = "accounts.apikey"

    def get_queryset(self):
        keys = ApiKey.objects.all()
        if "api_key" in self.request.auth:  # one that leaked ends no other
            return keys.filter(pk=self.request.auth["api_key"])
        return keys if self.request.user.role == User.Role.OWNER else keys.filter(user=self.request.user.pk)


class ApiKeyList(ApiKeys, generics.ListAPIView):
    @extend_schema(responses={201: MadeApiKeySerializer})
    def post(self, request):
        """A key in the name of who asks. A key makes none: what leaked could not be ended."""
        if "api_key" in request.auth:
            raise PermissionDenied
        asked = self.get_serializer(data=request.data)
        asked.is_valid(raise_exception=True)
        key, text = make_key(request.user, **asked.validated_data)
        return Response(MadeApiKeySerializer(key).data | {"key": text}, status=201)


class ApiKeyDetail(ApiKeys, generics.RetrieveAPIView):
    @extend_schema(responses={204: None})
    def delete(self, request, pk):
        """Revokes it, at once and for ever. Its row stays."""
        revoke_key(self.get_object())
        return Response(status=204)
