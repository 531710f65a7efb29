import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from config.requests import UTF8WSGIRequest  # noqa: E402  needs the settings, as does the next
from tenants.secrets import give_up_fleet_key  # noqa: E402

application.request_class = UTF8WSGIRequest
give_up_fleet_key()
