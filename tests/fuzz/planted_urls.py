"""The product with views that are wrong, each in one way. Below ``token/``, where no tenant is bound for them."""

from datetime import timedelta

from django.http import Http404
from django.urls import path
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import APIView

from config.urls import urlpatterns as product
from scans.models import Target
from tenants.context import tenant_context


class Unguarded(APIView):
    authentication_classes: list = []
    permission_classes: list = []


class Days(serializers.Serializer):
    days = serializers.IntegerField()


class FailsForLargeNumbers(Unguarded):
    @extend_schema(request=Days, responses=Days)
    def post(self, request):
        days = Days(data=request.data)
        days.is_valid(raise_exception=True)
        timezone.now() + timedelta(days=days.validated_data["days"])
        return Response(days.data)


class Name(serializers.Serializer):
    name = serializers.CharField(max_length=120)


class AnybodysTarget(Unguarded):
    """Asks every tenant for the id, as one big database would; a new name is added to the old one."""

    @extend_schema(responses=Name)
    def get(self, request, pk):
        return Response({"name": self.act(pk, lambda target: target.name)})

    @extend_schema(request=Name, responses=Name)
    def put(self, request, pk):
        new = Name(data=request.data)
        new.is_valid(raise_exception=True)

        def rename(target):
            target.name = f"{target.name} {new.validated_data['name']}"[:120]
            target.save(update_fields=["name"])

        self.act(pk, rename)
        return Response(new.data)

    def act(self, pk, act):
        for slug in ("acme", "globex"):
            with tenant_context(slug):
                if target := Target.objects.filter(pk=pk).first():
                    return act(target)
        raise Http404


class Refused(APIException):
    status_code = 409


class NeverSucceeds(Unguarded):
    @extend_schema(request=None, responses=Name)
    def post(self, request):
        raise Refused


class AnswersOtherwise(Unguarded):
    @extend_schema(responses=Name)
    def get(self, request):
        return Response({"title": "It has no name."})


class AnswersAnotherStatus(Unguarded):
    @extend_schema(responses=Name)
    def get(self, request):
        return Response({"name": "x"}, status=203)


urlpatterns = [
    path("api/v1/token/planted/days/", FailsForLargeNumbers.as_view()),
    path("api/v1/token/planted/targets/<uuid:pk>/", AnybodysTarget.as_view()),
    path("api/v1/token/planted/never/", NeverSucceeds.as_view()),
    path("api/v1/token/planted/otherwise/", AnswersOtherwise.as_view()),
    path("api/v1/token/planted/status/", AnswersAnotherStatus.as_view()),
    *product,
]
