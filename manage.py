#!/usr/bin/env python
"""Django's command line, bound to the control plane: ``tenant_command`` and its like bind a tenant inside it."""

import os
import sys


def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415  needs the setting above
    from django.db import OperationalError, ProgrammingError  # noqa: PLC0415

    from config.env import ConfigurationError  # noqa: PLC0415
    from tenants.context import control_plane  # noqa: PLC0415
    from tenants.exceptions import TenantError  # noqa: PLC0415

    try:
        with control_plane():
            execute_from_command_line(sys.argv)
    except (TenantError, ConfigurationError) as error:
        sys.exit(str(error))
    except (OperationalError, ProgrammingError) as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"The database cannot be used as it is: {error}. A new installation starts with: manage.py migrate")


if __name__ == "__main__":
    main()
