"""marimo, its editor."""

from .app import App

SCRIPT = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    mo.md("hello marimo")
    return (mo,)


if __name__ == "__main__":
    app.run()
"""


def run(frame):
    """The cell runs over the WebSocket; its output is not there before."""
    frame.locator(".cm-content").first.click()
    frame.page.keyboard.press("Control+Enter")
    frame.locator(".markdown:has-text('hello marimo')").first.wait_for(state="visible")


APP = App(
    name="marimo",
    title="marimo",
    template="marimo",
    pip=("marimo",),
    arguments={"notebook": "ma/notebook.py"},
    files={"ma/notebook.py": SCRIPT},
    ready=".cm-content",
    steps={"live": run},
    how="The template sets `--base-url`. There is no token: the login is Jupyter's.",
)
