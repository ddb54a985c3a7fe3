"""The dashboard of Dask's scheduler, which is Bokeh's."""

from .app import App, click

APP = App(
    name="dask",
    title="Dask dashboard",
    template="dask-scheduler",
    pip=("dask[distributed]", "bokeh"),
    recipe={"command": ["dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:{port}",
                        "--dashboard-prefix", "{prefix}"], "keep_prefix": True, "path_info": "status"},
    start="status",
    ready="canvas",
    steps={"link": click("a:has-text('Workers')", ".bk-DataTable")},
    deep=("workers", ".bk-DataTable"),
    how="A template with `--dashboard-prefix {prefix}` and `keep_prefix`, or `distributed.dashboard.link`: see "
    "[services](services.md#start-look-stop).",
)  # fmt: skip
