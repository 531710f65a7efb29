import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from tenants.secrets import give_up_fleet_key  # noqa: E402  needs the settings

give_up_fleet_key()
