"""A tenant's workspace, as seen from inside its mount point ``/t/<slug>/``."""

from django.urls import path

from tenants.accounts.admin import workspace_site

urlpatterns = [path("", workspace_site.urls)]
