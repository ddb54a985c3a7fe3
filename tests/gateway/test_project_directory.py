"""What the gateway knows of a project that a user may see."""

from __future__ import annotations

from jupyter_portproxy.gateway.project_directory import VisibleProject


def test_a_project_reaches_no_port_unless_it_is_told_and_compares_by_its_values():
    names = ("key", "ann", "demo", "viewer", "private", None, None)
    one, other = VisibleProject(*names), VisibleProject(*names, reaches=lambda port: True)
    assert (one.reaches(15000), other.reaches(15000), one == other) == (False, True, True)
