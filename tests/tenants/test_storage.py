"""Each plane's files are its own, whatever they are called."""

import os
import shutil
import stat

import pytest
from django.conf import settings as live
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tenants.context import tenant_context
from tenants.exceptions import NoTenantError
from tenants.planes import current
from tests.tenants.test_ambient import in_each


@pytest.fixture
def files(acme, globex):
    """The same name in acme, in globex and in control, each with its plane's alias as content."""

    def save():
        name = default_storage.save("reports/report.txt", ContentFile(current().alias.encode()))
        return name, read(name), default_storage.path(name)

    yield in_each(save)
    shutil.rmtree(live.BULKHEAD_HOME / "files")


def read(name):
    with default_storage.open(name) as file:
        return file.read().decode()


def test_the_same_name_is_another_file_in_each_plane(files):
    names, contents, paths = zip(*files, strict=True)

    assert set(names) == {"reports/report.txt"}
    assert len(set(contents)) == len(set(paths)) == 3
    assert all(path.startswith(str(live.BULKHEAD_HOME / "files")) for path in paths)


def test_nobody_else_on_the_machine_may_read_them(files):
    for _, _, path in files:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        while path != str(live.BULKHEAD_HOME):
            path = os.path.dirname(path)
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_they_have_no_address(files):
    with tenant_context("acme"), pytest.raises(ValueError, match="not accessible via a URL"):
        default_storage.url("reports/report.txt")


USES = {
    "open": lambda name: read(name),
    "save": lambda name: default_storage._save(name, ContentFile(b"x")),
    "delete": lambda name: default_storage.delete(name),
    "exists": lambda name: default_storage.exists(name),
    "listdir": lambda name: default_storage.listdir(name),
    "size": lambda name: default_storage.size(name),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("kind", ["up", "up from within", "absolute", "link", "link to a directory", "own root a link"])
def test_no_name_leads_to_another_tenants_file(files, globex, use, kind):
    (_, _, mine), (_, _, theirs), _ = files
    root = os.path.dirname(os.path.dirname(mine))
    os.symlink(theirs, os.path.join(root, "link"))
    os.symlink(os.path.dirname(theirs), os.path.join(root, "directory"))
    name = {
        "up": f"../{globex.alias}/reports/report.txt",
        "up from within": f"reports/../../{globex.alias}/reports/report.txt",
        "absolute": theirs,
        "link": "link",
        "link to a directory": "directory/report.txt",
        "own root a link": "reports/report.txt",
    }[kind]
    if kind == "own root a link":
        os.rename(root, root + ".away")
        os.symlink(os.path.dirname(os.path.dirname(theirs)), root)

    with tenant_context("acme"), pytest.raises(SuspiciousFileOperation):
        use(name)

    with tenant_context("globex"):
        assert read("reports/report.txt") == globex.alias


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_there_are_no_files_where_nothing_is_bound(installation, use):
    with pytest.raises(NoTenantError):
        use("reports/report.txt")
