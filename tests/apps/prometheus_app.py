"""Prometheus, of Debian's package."""

from .app import App, click, fill, see


def query(frame):
    fill("[name=expr]", "vector(42)", "text=Execute", press="Escape")(frame)
    frame.locator(".execute_btn").first.click()
    see(frame, "td:has-text('42')")


APP = App(
    name="prometheus",
    title="Prometheus",
    template="prometheus-server",
    debian=("prometheus",),
    recipe={
        "command": ["prometheus", "--config.file=prom/config.yml", "--storage.tsdb.path=prom/data",
                    "--web.listen-address=127.0.0.1:{port}", "--web.external-url={prefix}/", "--web.route-prefix=/"],
        "path_info": "classic/graph",
    },
    files={"prom/config.yml": "scrape_configs: []\n"},
    start="classic/graph",
    ready="text=Execute",
    steps={"live": query, "link": click("a:has-text('Alerts')", "text=Inactive")},
    deep=("classic/targets", "h1:has-text('Targets')"),
    how="`--web.external-url {prefix}/` with `--web.route-prefix /`.",
)  # fmt: skip
