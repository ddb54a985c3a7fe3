"""Dash."""

from .app import App, click, download, fill, upload

SCRIPT = """
import base64
from dash import Dash, Input, Output, State, callback, dcc, html

app = Dash(__name__, suppress_callback_exceptions=True)
first = html.Div([html.H1("hello dash"), html.Button("count", id="b"), html.P(id="n"), dcc.Input(id="word", debounce=True),
    html.P(id="said"), dcc.Upload("file", id="file"), html.P(id="sent"), html.Button("save", id="save"), dcc.Download(id="data"),
    dcc.Link("other", href=app.get_relative_path("/other"))])
app.layout = html.Div([dcc.Location(id="url"), html.Div(id="page")])

@callback(Output("page", "children"), Input("url", "pathname"))
def show(path):
    return html.H1("second page") if app.strip_relative_path(path) == "other" else first

@callback(Output("n", "children"), Input("b", "n_clicks"))
def count(n):
    return f"pressed {n}"

@callback(Output("said", "children"), Input("word", "value"))
def say(word):
    return f"said {word}"

@callback(Output("sent", "children"), Input("file", "contents"), prevent_initial_call=True)
def sent(data):
    return f"{len(base64.b64decode(data.partition(',')[2]))} bytes arrived"

@callback(Output("data", "data"), Input("save", "n_clicks"), prevent_initial_call=True)
def save(n):
    return dict(content="some bytes", filename="data.txt")

if __name__ == "__main__":
    app.run()
"""

APP = App(
    name="dash",
    title="Dash",
    template="dash",
    pip=("dash",),
    arguments={"script": "da/app.py"},
    files={"da/app.py": SCRIPT},
    ready="text=hello dash",
    steps={
        "live": click("button:has-text('count')", "text=pressed 1"),
        "form": fill("#word", "hello", "text=said hello"),
        "upload": upload("#file input", "text=12 bytes arrived"),
        "download": download("#save", b"some bytes"),
        "link": click("text=other", "text=second page"),
    },
    deep=("other", "text=second page"),
    how="The script calls `app.run()` without host and port, and writes links with `dash.get_relative_path`.",
)
