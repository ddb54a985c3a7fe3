"""Bokeh."""

from .app import App, click

SCRIPT = """
from bokeh.layouts import column
from bokeh.models import Button, Div
from bokeh.plotting import curdoc, figure
plot = figure(); plot.line([1, 2], [1, 2])
said, button = Div(text="hello bokeh"), Button(label="count")
button.on_click(lambda: setattr(said, "text", "the button was pressed"))
curdoc().add_root(column(said, button, plot))
"""
APP = App(
    name="bokeh",
    title="Bokeh",
    template="bokeh",
    pip=("bokeh",),
    arguments={"script": "bo/app.py"},
    files={"bo/app.py": SCRIPT},
    start="app",
    ready="text=hello bokeh",
    steps={"live": click("button:has-text('count')", "text=the button was pressed")},
    deep=("app?x=1", "text=hello bokeh"),
    how="The template sets `--prefix` and allows the WebSocket's origin. The page is at `app`, the script's name.",
)
