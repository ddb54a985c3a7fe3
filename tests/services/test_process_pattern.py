"""Patterns for processes: which ones are refused. The test of the browser's matcher reads the same cases."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.services.process_pattern import check_pattern

from ..support.cpu_time import takes_at_most

CASES = json.loads(Path(__file__).with_name("process_patterns.json").read_text())


@pytest.mark.parametrize("pattern", [*dict.fromkeys(pattern for pattern, _, _ in CASES["matches"]), *CASES["largest"]])
def test_a_pattern_is_accepted(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize(("pattern", "text", "matches"), CASES["matches"])
def test_the_cases_mean_the_same_in_python(pattern, text, matches):
    assert bool(re.search(pattern, text)) == matches


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in CASES["backtracking"]])
def test_a_pattern_that_backtracks_elsewhere_is_accepted(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", CASES["syntax"])
def test_what_is_no_regular_expression_is_refused(pattern):
    with pytest.raises(BadInput) as caught:
        check_pattern(pattern)
    assert caught.value.message.startswith(f"The pattern {pattern!r} is not a regular expression: ") and caught.value.hint


@pytest.mark.parametrize(("pattern", "part"), CASES["unsupported"])
def test_an_unsupported_part_is_named(pattern, part):
    with pytest.raises(BadInput) as caught:
        check_pattern(pattern)
    assert caught.value.message == f"The pattern {pattern!r} has {part!r}." and "look-around" in caught.value.hint


@pytest.mark.parametrize("pattern", CASES["possessive"])
def test_a_repetition_that_gives_nothing_back_is_refused(pattern):
    """Python has them since 3.11, browsers do not."""
    with pytest.raises(BadInput):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", CASES["size"])
def test_a_large_pattern_is_refused_at_once(pattern):
    begun = time.monotonic()
    with pytest.raises(BadInput) as caught:
        check_pattern(pattern)
    assert caught.value.message == f"The pattern {pattern!r} is too large." and "300 characters" in caught.value.hint
    assert time.monotonic() - begun < 0.5


def test_wide_ranges_are_checked_in_no_time():
    patterns = ["(?i)" + "[!-\U0010ffff]" * 14 + str(number) for number in range(50)]
    with takes_at_most(1):
        for pattern in patterns:
            check_pattern(pattern)
    with pytest.raises(BadInput, match="bad character range"):
        check_pattern("[\U0010ffff-\u0100]")
