import pytest

from tests.routes.world import World


@pytest.fixture
def world(installation):
    return World()
