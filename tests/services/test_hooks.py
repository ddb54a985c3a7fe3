"""Hooks that are not overridden change nothing."""

from __future__ import annotations

from jupyter_portproxy.services.hooks import BufferedResponse, Endpoint, RequestHooks, TemplateHooks


def test_the_base_class_changes_nothing():
    hooks, response = RequestHooks(), BufferedResponse(200, "OK", [("A", "b")], b"content")
    assert (hooks.raw_socket, hooks.rewrites, hooks.depends_on_request, hooks.renamed_fields) == (False, False, False, {})
    assert hooks.request_fields(Endpoint(8050), "/b/") == []
    assert hooks.path("/a%2Fb") == "/a%2Fb"
    assert hooks.counts_as_activity(None)
    assert hooks.rewrite(response, None, "localhost", 8050, "/a%2Fb") is response


def test_template_hooks_are_request_hooks():
    assert TemplateHooks().path("/a") == "/a"
