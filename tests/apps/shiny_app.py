"""Shiny for Python."""

from .app import App, click, download, fill, upload

SCRIPT = """
from shiny import App, render, ui

page = ui.page_fluid(ui.h1("hello shiny"), ui.input_action_button("b", "count"), ui.output_text("n"),
    ui.input_text("word", "word"), ui.output_text("said"), ui.input_file("file", "file"),
    ui.output_text("sent"), ui.download_button("save", "save"))

def server(input, output, session):
    @render.text
    def n():
        return f"pressed {input.b()}"
    @render.text
    def said():
        return f"said {input.word()}"
    @render.text
    def sent():
        return f"{input.file()[0]['size']} bytes arrived" if input.file() else ""
    @render.download(filename="data.txt")
    def save():
        yield "some bytes"

app = App(page, server)
"""
APP = App(
    name="shiny",
    title="Shiny for Python",
    template="shiny",
    pip=("shiny",),
    arguments={"script": "sh/app.py"},
    files={"sh/app.py": SCRIPT},
    ready="#n:has-text('pressed 0')",
    steps={
        "live": click("#b", "text=pressed 1"),
        "form": fill("#word", "hello", "text=said hello"),
        "upload": upload("input[type=file]", "text=12 bytes arrived"),
        "download": download("#save", b"some bytes"),
    },
    deep=("?word=x", "text=hello shiny"),
    how="Its links are relative; it needs no option.",
)
