"""Voila, with a widget that a kernel answers."""

import json

from .app import App, click

CODE = """import ipywidgets as w
from IPython.display import display
said, button = w.Label("hello voila"), w.Button(description="count")
button.on_click(lambda b: setattr(said, "value", "the button was pressed"))
display(w.VBox([said, button]))"""
NOTEBOOK = {
    "cells": [{"cell_type": "code", "id": "a", "execution_count": None, "metadata": {}, "outputs": [], "source": CODE}],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip
APP = App(
    name="voila",
    title="Voila",
    template="voila",
    pip=("voila", "ipywidgets", "ipykernel"),
    arguments={"notebook": "vo/nb.ipynb"},
    files={"vo/nb.ipynb": json.dumps(NOTEBOOK)},
    ready="text=hello voila",
    steps={"live": click("button:has-text('count')", "text=the button was pressed")},
    how="The template sets `--base_url`.",
)
