"""Scans: asked for, steered, followed, reported on. All of the bound tenant."""

import json
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from django.http import StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from rest_framework import generics, status
from rest_framework.exceptions import ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from scans import services
from scans.idempotency import once
from scans.models import Scan
from scans.progress import ScanStream
from scans.report import report_response
from scans.serializers import (
    ScanDetailSerializer,
    ScanSerializer,
)
from tenants.authentication import require_open

KEY_IS_FOR = "One of your own, for this request: asked again within a day with the same one, it has the same answer."
AFTER_IS = "The id of the last event that was received: what came after it is told."


class ScanList(generics.ListCreateAPIView):
    serializer_class = ScanSerializer
    resource = "scans.scan"

    def get_queryset(self):
        return Scan.objects.all()

    @extend_schema(
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description=KEY_IS_FOR)],
        responses={202: ScanSerializer},
    )
    def post(self, request, *args, **kwargs):
        """
        Ask for a scan. It is accepted once it is written down, and runs later: follow its detail page or its events.

        409 says why it may not run: `authorization_missing`, `authorization_revoked`, `authorization_stale`,
        `intrusiveness_too_high`, `target_inactive`; or `idempotency_key_reused`.
        """
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)

        def ask() -> dict:
            scan = services.request_scan(**serializer.validated_data, user=request.user)
            return json.loads(JSONRenderer().render(self.get_serializer(scan).data))

        key = request.headers.get("Idempotency-Key")
        answer = ask() if key is None else once(user=request.user, key=key, asked=request.data, do=ask)
        return _accepted(answer)


class ScanDetail(generics.RetrieveAPIView):
    serializer_class = ScanDetailSerializer
    resource = "scans.scan"

    def get_queryset(self):
        return Scan.objects.prefetch_related("runs", "events")


class ScanSteering(generics.GenericAPIView):
    """Answers the scan as it is then: one that was running is pausing or cancelling for some seconds."""

    serializer_class = ScanSerializer
    resource = "scans.scan"
    actions = {"POST": "steer"}
    steer: ClassVar[Callable[..., None]]

    def get_queryset(self):
        return Scan.objects.all()

    @extend_schema(request=None)
    def post(self, request, *args, **kwargs):
        scan = self.get_object()
        type(self).steer(scan=scan, user=request.user)
        scan.refresh_from_db()
        return Response(self.get_serializer(scan).data)


class ScanCancel(ScanSteering):
    steer = staticmethod(services.cancel_scan)


class ScanPause(ScanSteering):
    steer = staticmethod(services.pause_scan)


class ScanResume(ScanSteering):
    steer = staticmethod(services.resume_scan)


class ScanRetry(ScanSteering):
    """A new scan of what one that has ended was of; `retry_of` names it."""

    @extend_schema(request=None, responses={202: ScanSerializer})
    def post(self, request, *args, **kwargs):
        scan = services.retry_scan(scan=self.get_object(), user=request.user)
        return _accepted(self.get_serializer(scan).data)


def _accepted(scan: dict) -> Response:
    location = reverse("scan-detail", kwargs={"pk": scan["id"]})
    return Response(scan, status=status.HTTP_202_ACCEPTED, headers={"Location": location})


class AlwaysFirst(BaseContentNegotiation):
    """A browser asks for HTML and gets it; what is an error stays JSON."""

    def select_parser(self, request, parsers):
        return parsers[0]

    def select_renderer(self, request, renderers, format_suffix=None):
        return renderers[0], renderers[0].media_type


class ScanReport(generics.GenericAPIView):
    resource = "scans.scan"
    content_negotiation_class = AlwaysFirst

    def get_queryset(self):
        return Scan.objects.all()

    @extend_schema(responses={(200, "text/html"): OpenApiTypes.STR})
    def get(self, request, *args, **kwargs):
        """One page that needs nothing else: what was covered, what was not, and what was found."""
        return report_response(self.get_object())


class ScanEvents(generics.GenericAPIView):
    resource = "scans.scan"
    content_negotiation_class = AlwaysFirst

    def get_queryset(self):
        return Scan.objects.all()

    @extend_schema(
        parameters=[OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER, description=AFTER_IS)],
        responses={(200, "text/event-stream"): OpenApiTypes.OBJECT},  # of each event
    )
    def get(self, request, *args, **kwargs):
        """
        What the scan became and how far it is, as it happens: events `state`, with an id, and `progress`. It ends with
        the scan, and after half a minute: `EventSource` and its like go on with `Last-Event-ID`.
        """
        last = request.headers.get("Last-Event-ID", "0")
        if not (last.isascii() and last.isdigit() and len(last) <= 9):
            raise ValidationError({"Last-Event-ID": ["Use the id of an event."]})
        stream = ScanStream(self.get_object(), int(last), partial(require_open, request.auth))
        return StreamingHttpResponse(
            stream, content_type="text/event-stream; charset=utf-8", headers={"X-Accel-Buffering": "no"}
        )
