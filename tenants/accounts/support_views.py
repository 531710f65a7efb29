"""What owners, managers and auditors see of support access, and owners decide: `support-access/`."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

from tenants.accounts.models import SupportAccess
from tenants.accounts.support import HOURS, end, grant, open_accesses, refuse


class SupportAccessSerializer(serializers.ModelSerializer):
    operator = serializers.CharField(source="user.username", help_text="As which they act here.")
    state = serializers.CharField(help_text="asked, granted, refused, withdrawn, ended or expired")

    scope = serializers.ChoiceField(
        SupportAccess.Scope.choices, allow_blank=True, read_only=True, help_text="As granted."
    )

    class Meta:
        model = SupportAccess
        fields = [
            "id", "operator", "state", "reason", "scope_asked", "hours_asked", "asked_at", "scope", "granted_by",
            "granted_at", "expires_at", "ended_by", "ended_at",
        ]  # fmt: skip
        read_only_fields = fields


class GrantSerializer(serializers.Serializer):
    scope = serializers.ChoiceField(SupportAccess.Scope.choices, default=SupportAccess.Scope.READ)
    hours = serializers.IntegerField(min_value=1, max_value=HOURS)


class SupportAccesses(generics.GenericAPIView):
    serializer_class = SupportAccessSerializer
    resource = "accounts.supportaccess"

    def get_queryset(self):
        return SupportAccess.objects.select_related("user")


class SupportAccessList(SupportAccesses, generics.ListAPIView):
    def get(self, request, *args, **kwargs):
        open_accesses()
        return super().get(request, *args, **kwargs)


class Decision(SupportAccesses):
    actions = {"POST": "grant"}

    def decide(self, access: SupportAccess) -> None:
        raise NotImplementedError

    @extend_schema(request=None, responses=SupportAccessSerializer)
    def post(self, request, pk):
        access = self.get_object()
        self.decide(access)
        return Response(self.get_serializer(get_object_or_404(self.get_queryset(), pk=pk)).data)


class SupportAccessGrant(Decision):
    """Lets the operator in, until the hours are over or an owner ends it. That is for a person: an API key may not."""

    @extend_schema(request=GrantSerializer, responses=SupportAccessSerializer)
    def post(self, request, pk):
        return super().post(request, pk)

    def decide(self, access):
        if "api_key" in self.request.auth:
            raise PermissionDenied
        wish = GrantSerializer(data=self.request.data)
        wish.is_valid(raise_exception=True)
        grant(access, owner=self.request.user, **wish.validated_data)


class SupportAccessRefuse(Decision):
    def decide(self, access):
        refuse(access, owner=self.request.user)


class SupportAccessEnd(Decision):
    """From the next request on the operator is nobody in this tenant."""

    def decide(self, access):
        end(access, owner=self.request.user)
