from django.urls import include, path, re_path
from django.views.generic import RedirectView

from config import api, health, metrics
from config.api_docs import DocsView, SchemaView
from tenants.accounts.api import LogoutView, MeView, RefreshView, TokenView
from tenants.accounts.api_key_views import ApiKeyDetail, ApiKeyList
from tenants.accounts.support_views import (
    SupportAccessEnd,
    SupportAccessGrant,
    SupportAccessList,
    SupportAccessRefuse,
)
from tenants.accounts.user_views import UserDetail, UserInvitation, UserList
from tenants.admin import operator_site
from tenants.audit.api import AuditEventList, AuditExport

urlpatterns = [
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", metrics.metrics),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    path("api/docs/", DocsView.as_view(url_name="schema"), name="docs"),
    path("api/v1/token/", TokenView.as_view(), name="token"),
    path("api/v1/token/refresh/", RefreshView.as_view(), name="token-refresh"),
    path("api/v1/token/logout/", LogoutView.as_view(), name="token-logout"),
    path("api/v1/api-keys/", ApiKeyList.as_view(), name="api-key-list"),
    path("api/v1/api-keys/<uuid:pk>/", ApiKeyDetail.as_view(), name="api-key-detail"),
    path("api/v1/support-access/", SupportAccessList.as_view(), name="support-access-list"),
    path("api/v1/support-access/<uuid:pk>/grant/", SupportAccessGrant.as_view(), name="support-access-grant"),
    path("api/v1/support-access/<uuid:pk>/refuse/", SupportAccessRefuse.as_view(), name="support-access-refuse"),
    path("api/v1/support-access/<uuid:pk>/end/", SupportAccessEnd.as_view(), name="support-access-end"),
    path("api/v1/audit-events/", AuditEventList.as_view(), name="audit-event-list"),
    path("api/v1/audit-events/export.jsonl", AuditExport.as_view(), name="audit-export"),
    path("api/v1/users/", UserList.as_view(), name="user-list"),
    path("api/v1/users/<uuid:pk>/", UserDetail.as_view(), name="user-detail"),
    path("api/v1/users/<uuid:pk>/invitation/", UserInvitation.as_view(), name="user-invitation"),
    path("api/v1/me/", MeView.as_view(), name="me"),
    path("api/v1/", include("scans.urls")),
    path("operator", RedirectView.as_view(url="/operator/")),
    path("operator/", operator_site.urls),
    # What follows the slash is another URL configuration's: tenants.middleware mounts it.
    path("t/<str:slug>", RedirectView.as_view(url="/t/%(slug)s/")),
    re_path(r"", api.not_found),
]
handler400 = "config.api.bad_request"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"
