"""What operators and their scrapers are told of all tenants' scans holds nothing of any tenant's data."""

import pytest
from django.test import Client

from scans.dispatch import sweep
from tenants.context import control_plane
from tenants.notes import TenantLoad
from tests.config.test_metrics import SCRAPER
from tests.routes.asking import foreign_texts
from tests.routes.world import CANARIES, SLUGS


@pytest.fixture
def seen(world):
    """Both answers, of the planted tenants, each of whom has a scan that waits."""
    sweep(lambda task: None)
    with control_plane():
        assert set(TenantLoad.objects.values_list("tenant__slug", flat=True)) == set(SLUGS)
    return {
        "/metrics": Client().get("/metrics", headers=SCRAPER),
        "/operator/load/": world.client("operator").get("/operator/load/"),
    }


@pytest.mark.parametrize("path", ["/metrics", "/operator/load/"])
def test_nothing_of_a_tenants_rows_is_in_it_but_their_number(world, seen, path):
    ids = [pk for plane in SLUGS for kind, pk in world.ids[plane].items()]
    texts = [canary for plane, canary in CANARIES.items() if plane != "control"]

    assert seen[path].status_code == 200
    assert all(slug in seen[path].content.decode() for slug in SLUGS)
    assert foreign_texts(seen[path], path, [*texts, *ids, "Acme", "Globex"]) == []


def test_the_console_leads_operators_there_and_shows_it_without_a_script(world, seen):
    index = world.client("operator").get("/operator/").content.decode()
    page = seen["/operator/load/"].content.decode()

    assert 'href="/operator/load/"' in index
    for name in ("totals", "waits", "depths", "breakers"):
        assert f'<table id="load-{name}">' in page
    content = page[page.index('id="content"') :]
    assert "<script" not in content and "<form" not in content.partition("load-breakers")[2]
    assert "none was heard of within a minute" in page
