from django.apps import AppConfig

from tenants import connections, orm, querysets

# At import, which is before any app's models are: nothing must get hold of Django's own handler.
connections.install()
orm.install()
querysets.install()


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Tenants"

    def ready(self):
        from tenants import checks  # noqa: F401, PLC0415  registers them; reads the models, so not before now
