"""Panel."""

from .app import App, click, upload

SCRIPT = """
import panel as pn
pn.extension()
button, said, file = pn.widgets.Button(name="count"), pn.pane.Markdown("hello panel"), pn.widgets.FileInput()
button.on_click(lambda event: setattr(said, "object", "the button was pressed"))
file.param.watch(lambda event: setattr(said, "object", f"{len(event.new)} bytes arrived"), "value")
pn.Column(said, button, file).servable()
"""
APP = App(
    name="panel",
    title="Panel",
    template="panel",
    pip=("panel",),
    arguments={"script": "pa/app.py"},
    files={"pa/app.py": SCRIPT},
    start="app",
    ready="text=hello panel",
    steps={
        "live": click("button:has-text('count')", "text=the button was pressed"),
        "upload": upload("input[type=file]", "text=12 bytes arrived"),
    },
    deep=("app?x=1", "text=hello panel"),
    how="The template sets `--prefix` and allows the WebSocket's origin. The page is at `app`, the script's name.",
)
