"""TensorBoard without data: its frame, and the list of plugins that it asks for."""

from .app import App, click

APP = App(
    name="tensorboard",
    title="TensorBoard",
    template="tensorboard",
    pip=("tensorboard", "setuptools<81"),
    arguments={"logdir": "logs"},
    files={"logs/note.txt": "no runs yet"},
    ready="text=No dashboards are active",
    steps={"live": click("[aria-label='Reload'], .reload-button", "text=No dashboards are active")},
    deep=("?darkMode=true#timeseries", "tb-webapp"),
    how="The template sets `--path_prefix`. It does not find its own fonts below one: the browser's are shown.",
)
