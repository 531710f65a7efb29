"""Django as it comes: an alias per database, named in the settings, no router, no guard."""

import json
import os
from pathlib import Path

INSTALLED_APPS = ["benchmarks.isolation.rows"]
ABOUT = json.loads((Path(os.environ["BULKHEAD_HOME"]) / "about.json").read_text())
DATABASES = {"default": {}, **ABOUT["plain"]}
SECRET_KEY = "plain"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
