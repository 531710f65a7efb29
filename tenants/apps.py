from django.apps import AppConfig

from tenants import connections, orm, querysets, signing

# At import, which is before any app's models are: nothing must get hold of Django's own handler.
connections.install()
orm.install()
querysets.install()
signing.install()


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Tenants"

    def ready(self):
        # These read the models, so not before now.
        from tenants import ambient, checks, kept  # noqa: F401, PLC0415  checks register themselves

        kept.install()
        ambient.register_facets()
