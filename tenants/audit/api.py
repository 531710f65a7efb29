"""A tenant's audit: `audit-events/`, and all of it as JSON lines."""

import json

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiTypes, extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.views import APIView

from tenants.audit.models import AuditEvent
from tenants.audit.verification import export


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ChangesField(serializers.JSONField):
    pass


class AuditEventSerializer(serializers.ModelSerializer):
    changes = ChangesField(help_text="field: [old, new]; of an event that is no change, its facts")

    class Meta:
        model = AuditEvent
        exclude = ["id"]


class AuditEventFilter(serializers.Serializer):
    """The query of the list. What is no such value is refused."""

    action = serializers.CharField(max_length=40, required=False)
    resource = serializers.CharField(max_length=80, required=False, help_text="scans.target")
    object_id = serializers.CharField(max_length=64, required=False)
    actor_id = serializers.CharField(max_length=64, required=False)
    request_id = serializers.CharField(max_length=64, required=False)
    since = serializers.DateTimeField(source="at__gte", required=False)
    before = serializers.DateTimeField(source="at__lt", required=False)


class AuditEventList(generics.ListAPIView):
    """Newest first."""

    serializer_class = AuditEventSerializer
    resource = "audit.auditevent"

    def get_queryset(self):
        return AuditEvent.objects.all()

    def filter_queryset(self, queryset):
        query = AuditEventFilter(data=self.request.query_params.dict())
        query.is_valid(raise_exception=True)
        return queryset.filter(**dict(query.validated_data))  # no other names than the filter's own

    @extend_schema(parameters=[AuditEventFilter])
    def get(self, request, *args, **kwargs):
        return super().get(request, *args, **kwargs)


class AuditExport(APIView):
    resource = "audit.auditevent"

    @extend_schema(responses={(200, "application/x-ndjson"): OpenApiTypes.STR})
    def get(self, request):
        """All of it, oldest first, a line an event, with its hash. `manage.py verify_audit --export` checks it."""
        lines = (json.dumps(event, sort_keys=True) + "\n" for event in export())
        headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
        return StreamingHttpResponse(lines, content_type="application/x-ndjson", headers=headers)
