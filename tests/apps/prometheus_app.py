"""Prometheus, of Debian's package."""

from .app import App, click

APP = App(
    name="prometheus",
    title="Prometheus",
    template="prometheus-server",
    recipe={
        "command": ["prometheus", "--config.file=prom/config.yml", "--storage.tsdb.path=prom/data",
                    "--web.listen-address=127.0.0.1:{port}", "--web.external-url={prefix}/", "--web.route-prefix=/"],
        "path_info": "graph",
        "needs_storage": True,
    },
    files={"prom/config.yml": "scrape_configs: []\n"},
    start="graph",
    ready="text=Execute",
    steps={"link": click("a:has-text('Alerts')", "text=Inactive")},
    deep=("targets", "text=Targets"),
    how="`--web.external-url {prefix}/` with `--web.route-prefix /`.",
)  # fmt: skip
