from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "tenants.audit"
    label = "audit"
    verbose_name = "Audit"

    def ready(self):
        from tenants.audit import trail  # noqa: PLC0415  it reads the models, so not before now

        trail.install()
