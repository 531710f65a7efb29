"""Logging in, and who one is."""

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import update_last_login
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.context import current_tenant, login_context, tenant_context
from tenants.exceptions import InvalidTokenError, TenantNotFoundError, TenantSuspendedError
from tenants.tokens import TenantRefreshToken, tenant_of, verify


class CredentialsSerializer(serializers.Serializer):
    tenant = serializers.CharField(max_length=64, trim_whitespace=False, help_text="slug")
    username = serializers.CharField(max_length=64, trim_whitespace=False)
    password = serializers.CharField(max_length=256, trim_whitespace=False, write_only=True)


class TokenPairSerializer(serializers.Serializer):
    access = serializers.CharField()
    refresh = serializers.CharField()


class RefreshSerializer(serializers.Serializer):
    refresh = serializers.CharField(max_length=2048)


class AccessSerializer(serializers.Serializer):
    access = serializers.CharField()


class MeSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    username = serializers.CharField()
    role = serializers.CharField()
    tenant = serializers.CharField(help_text="slug")
    tenant_name = serializers.CharField()


class TokenView(APIView):
    """Log in. The tenant is named in the body; one that does not exist fails as a wrong password does."""

    authentication_classes: list = []
    permission_classes: list = []

    @extend_schema(request=CredentialsSerializer, responses=TokenPairSerializer)
    def post(self, request):
        credentials = CredentialsSerializer(data=request.data)
        credentials.is_valid(raise_exception=True)
        tenant, username, password = (credentials.validated_data[name] for name in ("tenant", "username", "password"))
        try:
            with login_context(tenant) as snapshot:
                return Response(_log_in(request, snapshot, username, password))
        except TenantNotFoundError:
            make_password(password)  # as long as a wrong password takes
            raise InvalidTokenError("There is no such tenant.") from None


def _log_in(request, snapshot, username: str, password: str) -> dict[str, str]:
    user = authenticate(request, username=username, password=password)
    if user is None:
        raise InvalidTokenError("The log-in failed.")
    if snapshot.state == "suspended":
        raise TenantSuspendedError("A member of a suspended tenant logged in.")
    update_last_login(type(user), user)
    refresh = TenantRefreshToken.for_user(user)
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


class RefreshView(APIView):
    """A new access token."""

    authentication_classes: list = []
    permission_classes: list = []

    @extend_schema(request=RefreshSerializer, responses=AccessSerializer)
    def post(self, request):
        body = RefreshSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        claims = verify(body.validated_data["refresh"], TenantRefreshToken)
        with tenant_context(tenant_of(claims)):
            user = get_user_model().objects.filter(pk=claims["sub"], is_active=True).first()
            if user is None:
                raise InvalidTokenError("The token's user is gone or disabled.")
            return Response({"access": str(TenantRefreshToken.for_user(user).access_token)})


class MeView(APIView):
    """Who am I, in which tenant, with which role."""

    @extend_schema(responses=MeSerializer)
    def get(self, request):
        tenant = current_tenant()
        user = request.user
        return Response(
            {
                "id": user.id,
                "username": user.username,
                "role": user.role,
                "tenant": tenant.slug,
                "tenant_name": tenant.name,
            }
        )
