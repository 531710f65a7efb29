"""One life-cycle change of a tenant at a time, whichever process or machine it comes from."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from tenants.exceptions import TenantExistsError
from tenants.secrets import fleet_name


@contextmanager
def exclusive(slug: str) -> Iterator[None]:
    """
    Call it where control is bound. The lock ends with its process: a killed one blocks nobody.

    Raises ``TenantExistsError`` at once while another holds it.
    """
    busy = TenantExistsError(f"Tenant {slug!r} is being changed by another process at this moment.")
    if connection.vendor == "mysql":
        # A lock's name is the server's: any account could take it, and hold the operators up, if it knew the name.
        name = fleet_name(f"lock of {connection.settings_dict['NAME']}:{slug}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
            if cursor.fetchone()[0] != 1:
                raise busy
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT RELEASE_LOCK(%s)", [name])
        return
    path = Path(settings.BULKHEAD_HOME) / "locks" / slug
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
