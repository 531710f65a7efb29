from django.urls import path

from scans import api, scan_api

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
    path("scans/", scan_api.ScanList.as_view(), name="scan-list"),
    path("scans/<uuid:pk>/", scan_api.ScanDetail.as_view(), name="scan-detail"),
    path("scans/<uuid:pk>/cancel/", scan_api.ScanCancel.as_view(), name="scan-cancel"),
    path("scans/<uuid:pk>/pause/", scan_api.ScanPause.as_view(), name="scan-pause"),
    path("scans/<uuid:pk>/resume/", scan_api.ScanResume.as_view(), name="scan-resume"),
    path("scans/<uuid:pk>/retry/", scan_api.ScanRetry.as_view(), name="scan-retry"),
    path("scans/<uuid:pk>/events/", scan_api.ScanEvents.as_view(), name="scan-events"),
    path("scans/<uuid:pk>/report.html", scan_api.ScanReport.as_view(), name="scan-report"),
    path("findings/", api.FindingList.as_view(), name="finding-list"),
    path("findings/<uuid:pk>/", api.FindingDetail.as_view(), name="finding-detail"),
]
