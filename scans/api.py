"""Targets and the proof that they may be tested, profiles, findings: the bound tenant's."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, mixins
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from scans import services
from scans.models import Authorization, Finding, Occurrence, ScanProfile, Target
from scans.serializers import (
    AuthorizationSerializer,
    FindingDetailSerializer,
    FindingFilter,
    FindingSerializer,
    ScanProfileSerializer,
    TargetChangeSerializer,
    TargetSerializer,
)
from scans.targets import is_scope_fixed, revoke
from tenants.audit.trail import lock_head
from tenants.edits import EditConflictSerializer
from tenants.versions import stale


class Conflict(APIException):
    status_code = 409
    default_code = "conflict"


class TargetList(generics.ListCreateAPIView):
    serializer_class = TargetSerializer
    resource = "scans.target"

    def get_queryset(self):
        return Target.objects.all()

    def perform_create(self, serializer):
        serializer.save(created_by=self.request.user)


class TargetDetail(mixins.UpdateModelMixin, generics.RetrieveAPIView):
    resource = "scans.target"

    def get_queryset(self):
        return Target.objects.all()

    def get_serializer_class(self):
        return TargetChangeSerializer if self.request.method == "PATCH" else TargetSerializer

    @extend_schema(responses={200: TargetSerializer, 409: EditConflictSerializer})
    def patch(self, request, *args, **kwargs):
        return self.update(request, *args, **kwargs)

    def perform_update(self, serializer):
        target, changes = serializer.instance, serializer.validated_data
        moves = any(name in changes and changes[name] != getattr(target, name) for name in ("host", "ports"))
        lock_head()  # as who authorises it does: nobody does between this look and the writing
        if moves and is_scope_fixed(target):
            raise Conflict(
                "Host and ports are authorised as they are. Revoke the authorisation first, or add another target.",
                "target_authorized",
            )
        services.reconsider_blocked_scans(target=serializer.save())


class AuthorizationList(generics.ListCreateAPIView):
    serializer_class = AuthorizationSerializer
    resource = "scans.authorization"

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        self.target = get_object_or_404(Target.objects, pk=kwargs["target_id"])

    def get_queryset(self):
        return Authorization.objects.filter(target=self.kwargs["target_id"])

    @extend_schema(responses={201: AuthorizationSerializer, 409: EditConflictSerializer})
    def post(self, request, *args, **kwargs):
        """409 `stale`: with the target's `version`, if it was changed since that was read."""
        return super().post(request, *args, **kwargs)

    def perform_create(self, serializer):
        """Of the target as it was read, if the version of that is named."""
        lock_head()
        target = get_object_or_404(Target.objects, pk=self.target.pk)
        read = serializer.validated_data.pop("version", target.version)
        if read != target.version:
            raise stale(target, read, {})
        serializer.save(target=target, created_by=self.request.user)
        services.reconsider_blocked_scans(target=target)


class AuthorizationRevoke(generics.GenericAPIView):
    """Again changes nothing."""

    serializer_class = AuthorizationSerializer
    resource = "scans.authorization"
    actions = {"POST": "revoke"}

    def get_queryset(self):
        return Authorization.objects.filter(target=self.kwargs["target_id"])

    @extend_schema(request=None)
    def post(self, request, *args, **kwargs):
        authorization = self.get_object()
        revoke(authorization)
        return Response(self.get_serializer(authorization).data)


class ProfileList(generics.ListCreateAPIView):
    serializer_class = ScanProfileSerializer
    resource = "scans.scanprofile"

    def get_queryset(self):
        return ScanProfile.objects.all()


class ProfileDetail(generics.RetrieveAPIView):
    serializer_class = ScanProfileSerializer
    resource = "scans.scanprofile"

    def get_queryset(self):
        return ScanProfile.objects.all()


class FindingList(generics.ListAPIView):
    serializer_class = FindingSerializer
    resource = "scans.finding"

    def get_queryset(self):
        return Finding.objects.all()

    def filter_queryset(self, queryset):
        query = FindingFilter(data=self.request.query_params.dict())
        query.is_valid(raise_exception=True)
        conditions = dict(query.validated_data)  # no other names than the filter's own
        scan = conditions.pop("scan", None)
        if scan is not None:
            queryset = queryset.filter(pk__in=Occurrence.objects.filter(run__scan=scan).values("finding"))
        return queryset.filter(**conditions)

    @extend_schema(parameters=[FindingFilter])
    def get(self, request, *args, **kwargs):
        return super().get(request, *args, **kwargs)


class FindingDetail(generics.RetrieveAPIView):
    serializer_class = FindingDetailSerializer
    resource = "scans.finding"

    def get_queryset(self):
        return Finding.objects.all()
