"""Files that belong to a plane: one directory for each, and none where nothing is bound."""

import os
from pathlib import Path

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible

from tenants.planes import require_bound


@deconstructible
class PlaneStorage(FileSystemStorage):
    """
    ``BULKHEAD_HOME/files/<alias>/`` of what is bound when it is used: the same name is another file in another tenant.
    Nobody else on the machine may read them, and they have no URL.

    Every use raises ``NoTenantError`` where nothing is bound, and ``SuspiciousFileOperation`` for a name that leads
    elsewhere, through a symbolic link too.
    """

    file_permissions_mode = 0o600
    directory_permissions_mode = 0o700
    base_url = None  # type: ignore[assignment]  # Django's own way of saying so

    @property
    def base_location(self):
        return os.path.join(os.path.realpath(settings.BULKHEAD_HOME / "files"), require_bound().alias)

    location = base_location

    def path(self, name):
        path, root = super().path(name), self.location
        if not Path(os.path.realpath(path)).is_relative_to(root):
            raise SuspiciousFileOperation("A symbolic link in a tenant's files leads out of them.")
        return path
