from django.urls import path

from scans import api

urlpatterns = [
    path("targets/", api.TargetList.as_view(), name="target-list"),
    path("targets/<uuid:pk>/", api.TargetDetail.as_view(), name="target-detail"),
    path("targets/<uuid:target_id>/authorizations/", api.AuthorizationList.as_view(), name="authorization-list"),
    path(
        "targets/<uuid:target_id>/authorizations/<uuid:pk>/revoke/",
        api.AuthorizationRevoke.as_view(),
        name="authorization-revoke",
    ),
    path("profiles/", api.ProfileList.as_view(), name="profile-list"),
    path("profiles/<uuid:pk>/", api.ProfileDetail.as_view(), name="profile-detail"),
    path("scans/", api.ScanList.as_view(), name="scan-list"),
    path("scans/<uuid:pk>/", api.ScanDetail.as_view(), name="scan-detail"),
    path("scans/<uuid:pk>/report.html", api.ScanReport.as_view(), name="scan-report"),
    path("findings/", api.FindingList.as_view(), name="finding-list"),
    path("findings/<uuid:pk>/", api.FindingDetail.as_view(), name="finding-detail"),
]
