"""One notice for the failed requests of a page load, whatever fails and however often."""

from __future__ import annotations

import asyncio

import pytest

from jupyter_portproxy.gateway.notices import FailedRequests
from jupyter_portproxy.gateway.page_failures import _MAX_PAGES, _MAX_PATHS, PageFailures

from ..support.waiting import eventually


@pytest.fixture
def notices():
    return []


@pytest.fixture
def failures(notices):
    failures = PageFailures(notices.append, delay=0.02)
    yield failures
    failures.close()


async def test_the_notice_has_all_that_fails_within_the_delay_and_comes_once(failures, notices):
    failures.begin_page("dash")
    for number in range(12):
        failures.count("dash", f"/static/{number}.js")
    assert notices == []
    await eventually(lambda: notices == [FailedRequests("dash", 12)])
    for number in range(12, 24):
        failures.count("dash", f"/static/{number}.js")
    await asyncio.sleep(0.1)
    assert len(notices) == 1
    failures.begin_page("dash")
    for number in range(3):
        failures.count("dash", f"/static/{number}.js")
    await eventually(lambda: notices[1:] == [FailedRequests("dash", 3)])


@pytest.mark.parametrize(
    "paths",
    [
        ["/poll"] * 20,
        ["/a", "/b"],
        ["/favicon.ico", "/apple-touch-icon-precomposed.png", "/a.js.map", "/b.css.map", "/.well-known/appspecific/x.json"],
    ],
)
async def test_what_fails_again_and_again_or_is_only_for_the_browser_itself_is_no_notice(failures, notices, paths):
    failures.begin_page("dash")
    for path in paths:
        failures.count("dash", path)
    await asyncio.sleep(0.1)
    assert notices == []


async def test_nothing_is_counted_without_a_page(failures, notices):
    assert not failures.is_counting
    failures.begin_page("other")
    for number in range(5):
        failures.count("dash", f"/{number}")
    await asyncio.sleep(0.1)
    assert notices == [] and failures.is_counting


async def test_a_page_that_is_left_before_the_notice_has_none(failures, notices):
    failures.begin_page("dash")
    for number in range(5):
        failures.count("dash", f"/{number}")
    failures.begin_page("dash")
    await asyncio.sleep(0.1)
    assert notices == []


async def test_nothing_is_begun_or_counted_while_it_is_paused(failures, notices):
    failures.begin_page("dash")
    with failures.paused("dash", "8050"):
        with failures.paused("dash"):
            pass
        failures.begin_page("8050")
        for target in ("dash", "8050"):
            for number in range(5):
                failures.count(target, f"/{number}")
    for number in range(5):
        failures.count("8050", f"/{number}")
    await asyncio.sleep(0.1)
    assert notices == []
    for number in range(3):
        failures.count("dash", f"/after/{number}")
    await eventually(lambda: notices == [FailedRequests("dash", 3)])


async def test_it_is_bounded(failures, notices):
    for number in range(_MAX_PAGES + 50):
        failures.begin_page(str(number))
    assert len(failures._pages) == _MAX_PAGES
    last = str(_MAX_PAGES + 49)
    for number in range(_MAX_PATHS + 50):
        failures.count(last, f"/{number}")
    await eventually(lambda: notices == [FailedRequests(last, _MAX_PATHS)])
    assert not failures._pages[last].failed
