from django.apps import AppConfig


class TenantsWithoutGuards(AppConfig):
    """The models of ``tenants``, which others import; nothing of Django is replaced."""

    name = "tenants"
