"""The links of `url`, `open` and other commands."""

from __future__ import annotations

import json

from ..support.jupyter_processes import jupyter_server, portproxy


def test_people_are_shown_the_hubs_address_and_the_api_is_called_here(tmp_path):
    hub = "https://hub.example.org/user/a%40b/"
    with jupyter_server(tmp_path, base="/user/a%40b/") as server:
        here = server.url.replace("127.0.0.1", "localhost")

        def output(*arguments: str, public: str = hub) -> str:
            code, text, _ = portproxy(tmp_path, *arguments, more={"JUPYTERHUB_PUBLIC_URL": public})
            assert code == 0
            return text.partition("\n")[0] if arguments[0] != "list" else text

        assert output("url", "15000") == f"{hub}proxy/enter/15000/"
        assert output("url", "--path", "15000") == f"{hub}proxy/port/15000/"
        assert output("url", "--isolated", "15000") == f"{hub}proxy/enter/15000/"
        assert output("start", "http-server") == f"http-server is up: {hub}proxy/enter/http-server/"
        port = json.loads(output("list", "--json"))["services"][0]["port"]
        assert output("check", str(port)) == f"Port {port} answers HTTP: {hub}proxy/enter/{port}/"
        path, prefix = "/user/a%40b/proxy/enter/15000/", {"JUPYTERHUB_SERVICE_PREFIX": "/user/a%40b/"}
        code, text, errors = portproxy(tmp_path, "url", "15000", more=prefix)
        assert (code, text) == (0, f"{path}\n") and "c.JupyterHub.public_url" in errors
        assert portproxy(tmp_path, "open", "15000", more=prefix)[2].endswith(f"Open this path below it: {path}\n")
        for other in ("", "https://hub.example.org/user/a%40b/nested/"):  # none, or that of the server which has started this one
            assert output("url", "15000", public=other).startswith(f"{here}proxy/enter/15000/?token=")
