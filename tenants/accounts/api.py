"""Logging in, and who one is."""

from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.accounts import second_factor
from tenants.accounts.logins import log_out, renew
from tenants.accounts.support import granted_accesses
from tenants.accounts.support_views import SupportAccessSerializer
from tenants.audit.trail import lock_head, record
from tenants.bulkheads import Place
from tenants.context import current_tenant, login_context, tenant_context
from tenants.exceptions import (
    InvalidTokenError,
    SecondFactorRequiredError,
    TenantNotFoundError,
    TenantSuspendedError,
)
from tenants.registry import registry
from tenants.tokens import TenantRefreshToken, tenant_of, verify


class CredentialsSerializer(serializers.Serializer):
    tenant = serializers.CharField(max_length=64, trim_whitespace=False, help_text="slug")
    username = serializers.CharField(max_length=64, trim_whitespace=False)
    password = serializers.CharField(max_length=256, trim_whitespace=False, write_only=True)
    otp = serializers.CharField(
        max_length=32,
        required=False,
        allow_blank=True,
        write_only=True,
        help_text="Of a member with a second factor: a code of their app, or a recovery code. "
        "Without it their log-in fails as with a wrong password.",
    )


class TokenPairSerializer(serializers.Serializer):
    access = serializers.CharField()
    refresh = serializers.CharField()


class RefreshSerializer(serializers.Serializer):
    refresh = serializers.CharField(max_length=2048)


class LogoutSerializer(RefreshSerializer):
    everywhere = serializers.BooleanField(default=False)


class MeSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    username = serializers.CharField()
    role = serializers.CharField()
    tenant = serializers.CharField(help_text="slug")
    tenant_name = serializers.CharField()
    support_access = SupportAccessSerializer(many=True, help_text="Of operators who may look into the tenant now.")


class TokenView(APIView):
    """Log in. The tenant is named in the body; one that does not exist fails as a wrong password does."""

    authentication_classes: list = []
    permission_classes: list = []

    @extend_schema(request=CredentialsSerializer, responses=TokenPairSerializer)
    def post(self, request):
        credentials = _valid(CredentialsSerializer, request)
        tenant = credentials.pop("tenant")
        try:
            with Place(registry.get(tenant).snapshot.id), login_context(tenant) as snapshot:
                return Response(_log_in(request, snapshot, credentials))
        except TenantNotFoundError:
            request.asked_tenant = tenant
            authenticate(request, **credentials)  # counted, and as long as a wrong one takes
            raise InvalidTokenError("There is no such tenant.") from None


def _log_in(request, snapshot, credentials: dict) -> dict[str, str]:
    user = authenticate(request, **credentials)
    if user is None:
        raise InvalidTokenError("The log-in failed.")
    if snapshot.state == "suspended":
        raise TenantSuspendedError("A member of a suspended tenant logged in.")
    with transaction.atomic():
        lock_head()  # as whatever ends log-ins does: it has happened, and is seen here, or it finds this one to end
        if _is_as_it_was(user):
            if second_factor.must_enrol(user):
                raise SecondFactorRequiredError("A member without a second factor logged in where all have one.")
            update_last_login(type(user), user)
            return _pair(TenantRefreshToken.for_user(user))
    record("log_in_failed", user)
    raise InvalidTokenError("The account has changed since its password was looked at.")


def _is_as_it_was(user) -> bool:
    """When password and code were looked at, which takes its time."""
    password = type(user).objects.filter(pk=user.pk, is_active=True).values_list("password", flat=True).first()
    return password == user.password and (user.gave_code or not second_factor.is_enrolled(user))


def _pair(refresh: TenantRefreshToken) -> dict[str, str]:
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


class RefreshView(APIView):
    """A new pair. A refresh token works once: using it again ends the log-in, whoever did."""

    authentication_classes: list = []
    permission_classes: list = []

    @extend_schema(request=RefreshSerializer, responses=TokenPairSerializer)
    def post(self, request):
        claims = verify(_valid(RefreshSerializer, request)["refresh"], TenantRefreshToken)
        with Place(tenant_of(claims)), tenant_context(tenant_of(claims)):
            return Response(_pair(TenantRefreshToken.for_login(renew(claims))))


class LogoutView(APIView):
    """Ends the log-in that a refresh token is of; with ``everywhere`` all of the member's."""

    authentication_classes: list = []
    permission_classes: list = []

    @extend_schema(request=LogoutSerializer, responses={204: None})
    def post(self, request):
        body = _valid(LogoutSerializer, request)
        claims = verify(body["refresh"], TenantRefreshToken)
        with Place(tenant_of(claims)), tenant_context(tenant_of(claims)):
            log_out(claims, body["everywhere"])
        return Response(status=204)


def _valid(serializer_class: type[serializers.Serializer], request) -> dict:
    body = serializer_class(data=request.data)
    body.is_valid(raise_exception=True)
    return body.validated_data


class MeView(APIView):
    """Who am I, in which tenant, with which role."""

    permission_classes = [IsAuthenticated]  # whatever their role

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
                "support_access": SupportAccessSerializer(granted_accesses(), many=True).data,
            }
        )
