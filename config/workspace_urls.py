"""A tenant's workspace, as seen from inside its mount point ``/t/<slug>/``."""

from django.urls import path

from tenants.accounts.admin import workspace_site
from tenants.accounts.support_pages import enter

urlpatterns = [path("support/enter/", enter, name="support-enter"), path("", workspace_site.urls)]
