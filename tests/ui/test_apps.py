"""Of the real applications those that are light: every check of the matrix holds in every way. `make apps` runs all of them."""

from __future__ import annotations

import pytest

from ..apps.programs import Desk
from ..apps.run import all_apps, in_all_ways
from ..apps.visits import OK

LIGHT = [app for app in all_apps() if app.light]
WAYS = ("direct", "path", "origin", "lab")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("apps"), LIGHT)


@pytest.fixture(scope="module")
def jupyter(desk):
    with desk.jupyter() as server:
        yield server


@pytest.mark.timeout(240)
@pytest.mark.parametrize("app", LIGHT, ids=lambda app: app.name)
def test_every_check_holds_in_every_way(desk, jupyter, chromium, app):
    results = in_all_ways(desk, app, dict.fromkeys(WAYS, jupyter), chromium)
    assert set(results) == set(WAYS) and all("page" in checks for checks in results.values())
    assert {(way, check): why for way, checks in results.items() for check, why in checks.items() if why != OK} == {}


def test_four_applications_are_light():
    assert [app.name for app in LIGHT] == ["flask", "http-server", "vite", "terminal"]
