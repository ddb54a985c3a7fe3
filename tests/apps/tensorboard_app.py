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
    how="Its links are relative, except for its fonts: with `--path_prefix` these are not found, so the template omits it.",
)
