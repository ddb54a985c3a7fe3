"""`python -m http.server`."""

from .app import App, click, download

APP = App(
    name="http-server",
    title="python -m http.server",
    template="http-server",
    arguments={"folder": "site"},
    files={"site/sub/page.html": "<p>a page</p>", "site/data.bin": "some bytes"},
    ready="text=Directory listing for /",
    steps={"link": click("text=sub/", "text=page.html"), "download": download("text=data.bin", b"some bytes")},
    deep=("sub/", "text=page.html"),
    how="Its links are relative; it needs no option.",
    light=True,
)
