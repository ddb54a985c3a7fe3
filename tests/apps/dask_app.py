"""The dashboard of Dask's scheduler, which is Bokeh's."""

from .app import App, click

APP = App(
    name="dask",
    title="Dask dashboard",
    template="dask-scheduler",
    pip=("dask[distributed]", "bokeh"),
    recipe={"command": ["dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:{port}",
                        "--dashboard-prefix", "{prefix}"], "path_info": "status"},
    start="status",
    ready="text=Task Stream",
    steps={"link": click("a:has-text('Workers')", "text=CPU")},
    deep=("workers", "text=CPU"),
    how="Set `distributed.dashboard.link`, see [services](services.md#start-look-stop).",
)  # fmt: skip
