"""A tenant's workspace, as seen from inside its mount point ``/t/<slug>/``."""

from django.urls import path

from tenants.accounts import link_pages
from tenants.accounts.sites import workspace_site
from tenants.accounts.support_pages import enter

urlpatterns = [
    path("support/enter/", enter, name="support-enter"),
    path("password/reset/", link_pages.ask, name="admin_password_reset"),
    path("password/set/", link_pages.choose, name="choose_password"),
    path("", workspace_site.urls),
]
handler400 = "config.api.bad_request"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"
