"""Close callbacks: order, and once only."""

from __future__ import annotations

import pytest

from jupyter_portproxy.upstream.closable import Closable, CloseCode


def test_callbacks_run_once_in_the_order_in_which_they_were_added():
    closable, calls = Closable(), []
    closable.add_close_callback(lambda closed: calls.append(("first", closed)))
    closable.add_close_callback(lambda closed: calls.append(("second", closed)))
    assert calls == []
    closable.run_close_callbacks()
    closable.run_close_callbacks()
    assert calls == [("first", closable), ("second", closable)]


def test_callbacks_belong_to_one_object():
    one, other, calls = Closable(), Closable(), []
    one.add_close_callback(calls.append)
    other.run_close_callbacks()
    assert calls == []


def test_how_to_shut_down_is_for_the_subclass_to_say():
    with pytest.raises(NotImplementedError):
        Closable().shut_down(CloseCode.GOING_AWAY)
