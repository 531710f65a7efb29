"""What the API shows and takes. Fields that are unknown or read-only are ignored in a body."""

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scans.engines import ENGINES
from scans.models import (
    SEVERITIES,
    Authorization,
    Finding,
    Occurrence,
    Scan,
    ScanEvent,
    ScanProfile,
    ScanRun,
    Target,
)
from scans.targets import clean_ca_pem, clean_expiry, clean_host
from tenants.edits import ChangeSerializer, ReadVersionField

PORTS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 1, "maximum": 65535},
    "minItems": 1,
    "maxItems": 100,
    "uniqueItems": True,
}
ENGINE_OPTIONS = {
    "type": "object",
    "minProperties": 1,
    "properties": {name: {"type": "object"} for name in ENGINES},
    "additionalProperties": False,
    "example": {"ports": {}, "tls": {}, "http": {}},
}
COVERAGE = {"type": "array", "items": {"type": "array", "items": {}}}
OCCURRENCES_SHOWN = 100


@extend_schema_field(PORTS)
class PortsField(serializers.JSONField):
    pass


@extend_schema_field(ENGINE_OPTIONS)
class EnginesField(serializers.JSONField):
    pass


@extend_schema_field(COVERAGE)
class CoverageField(serializers.JSONField):
    pass


def related(manager, what: str) -> serializers.PrimaryKeyRelatedField:
    """A reference in a body. One that is missing here and one that is another tenant's are answered alike."""
    return serializers.PrimaryKeyRelatedField(
        queryset=manager,
        pk_field=serializers.UUIDField(),
        error_messages={"does_not_exist": f"There is no such {what}."},
    )


class TargetSerializer(serializers.ModelSerializer):
    ports = PortsField(
        validators=Target._meta.get_field("ports").validators, help_text=Target._meta.get_field("ports").help_text
    )

    class Meta:
        model = Target
        fields = ["id", "name", "host", "ports", "ca_pem", "is_active", "created_by", "created_at", "version"]
        read_only_fields = ["created_by", "version"]

    def validate_host(self, host):
        return clean_host(host)

    def validate_ca_pem(self, text):
        return clean_ca_pem(text)


class TargetChangeSerializer(ChangeSerializer, TargetSerializer):
    class Meta(TargetSerializer.Meta):
        read_only_fields = ["created_by"]


class AuthorizationSerializer(serializers.ModelSerializer):
    version = ReadVersionField(
        required=False, write_only=True, help_text="of the target, as it was read: 409 if it was changed since"
    )

    class Meta:
        model = Authorization
        fields = [
            "id",
            "target",
            "version",
            "method",
            "statement",
            "intrusiveness",
            "expires_at",
            "revoked_at",
            "created_by",
            "created_at",
        ]
        read_only_fields = ["target", "method", "revoked_at", "created_by"]

    def validate_expires_at(self, moment):
        return clean_expiry(moment)


class ScanProfileSerializer(serializers.ModelSerializer):
    engines = EnginesField(
        validators=ScanProfile._meta.get_field("engines").validators, help_text="the engines to run, with their options"
    )
    intrusiveness = serializers.CharField(read_only=True, help_text="what an authorisation has to allow")

    class Meta:
        model = ScanProfile
        fields = ["id", "name", "engines", "intrusiveness"]


class ScanSerializer(serializers.ModelSerializer):
    target = related(Target.objects, "target")
    profile = related(ScanProfile.objects, "profile")
    priority = serializers.IntegerField(
        min_value=1,
        max_value=9,
        required=False,
        write_only=True,
        help_text="1 is first of the tenant's, 9 last",
    )

    class Meta:
        model = Scan
        fields = [
            "id",
            "number",
            "target",
            "profile",
            "priority",
            "retry_of",
            "state",
            "reason",
            "progress",
            "message",
            "created_by",
            "created_at",
            "started_at",
            "ended_at",
        ]
        read_only_fields = [name for name in fields if name not in ("target", "profile", "priority")]


class ScanRunSerializer(serializers.ModelSerializer):
    coverage = CoverageField(read_only=True, help_text="[rule, port]: tested completely")
    not_covered = CoverageField(read_only=True, help_text="[rule, port, reason]")

    class Meta:
        model = ScanRun
        fields = [
            "id",
            "engine",
            "version",
            "outcome",
            "exit_code",
            "is_healthy",
            "coverage",
            "not_covered",
            "error",
            "started_at",
            "ended_at",
        ]


class ScanEventSerializer(serializers.ModelSerializer):
    class Meta:
        model = ScanEvent
        fields = ["sequence", "state", "reason", "by", "fence", "at"]


class ScanDetailSerializer(ScanSerializer):
    runs = ScanRunSerializer(many=True, read_only=True)
    events = ScanEventSerializer(many=True, read_only=True, help_text="what it became: by a member or under a lease")

    class Meta(ScanSerializer.Meta):
        fields = [*ScanSerializer.Meta.fields, "runs", "events"]


class FindingSerializer(serializers.ModelSerializer):
    class Meta:
        model = Finding
        fields = [
            "id",
            "target",
            "rule_key",
            "title",
            "severity",
            "cwe",
            "scheme",
            "host",
            "port",
            "method",
            "path",
            "parameter",
            "place",
            "remediation",
            "confidence",
            "state",
            "version",
            "first_seen_at",
            "last_seen_at",
        ]


class OccurrenceSerializer(serializers.ModelSerializer):
    scan = serializers.UUIDField(source="run.scan_id")
    engine = serializers.CharField(source="run.engine")

    class Meta:
        model = Occurrence
        fields = ["id", "scan", "run", "engine", "evidence", "seen_at"]


class FindingDetailSerializer(FindingSerializer):
    occurrences = serializers.SerializerMethodField(help_text=f"the newest {OCCURRENCES_SHOWN}")

    class Meta(FindingSerializer.Meta):
        fields = [*FindingSerializer.Meta.fields, "occurrences"]

    @extend_schema_field(OccurrenceSerializer(many=True))
    def get_occurrences(self, finding):
        newest = finding.occurrences.select_related("run")[:OCCURRENCES_SHOWN]
        return OccurrenceSerializer(newest, many=True).data


class FindingFilter(serializers.Serializer):
    """The query of the list. What is no such value is refused, and an id that nobody has finds nothing."""

    target = serializers.UUIDField(required=False)
    scan = serializers.UUIDField(required=False, help_text="seen by this scan")
    state = serializers.ChoiceField(Finding.State.choices, required=False)
    severity = serializers.ChoiceField(SEVERITIES, required=False)
