"""JupyterLab below JupyterLab: a terminal's WebSocket, and a file."""

from contextlib import suppress

from playwright.sync_api import Error

from .app import App, see

DIRECT = ["python", "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port={port}",
          "--ServerApp.base_url={prefix}/", "--IdentityProvider.token=", "--ServerApp.password=",
          "--ServerApp.disable_check_xsrf=True",
          "--ServerApp.root_dir={folder}"]  # fmt: skip


def terminal(frame):
    """What is typed into a terminal goes through a WebSocket, and its answer comes back."""
    question = frame.locator("dialog.jp-Dialog").get_by_role("button", name="Cancel")
    with suppress(Error):  # Dash brings an extension for which Lab wants to be built; others do not
        question.click(timeout=5000)
    frame.locator(".jp-LauncherCard[title*='terminal' i]").first.click()
    frame.locator(".jp-Terminal .xterm-helper-textarea").first.wait_for(state="attached")
    frame.locator(".jp-Terminal").first.click()
    frame.page.keyboard.type('touch "$JUPYTER_SERVER_ROOT/from-the-terminal.txt"\n')
    see(frame, ".jp-DirListing-item:has-text('from-the-terminal')")


APP = App(
    name="jupyter",
    title="JupyterLab (nested)",
    template="jupyter",
    pip=("jupyterlab",),
    arguments={"folder": "nested"},
    files={"nested/file.txt": "some text"},
    directly={"command": DIRECT, "unix_socket": False},
    start="lab?reset",
    ready=".jp-LauncherCard >> nth=0",
    steps={"live": terminal},
    deep=("lab/tree/file.txt", ".jp-DirListing-item:has-text('file.txt')"),
    known={
        "lab: deep link": "In a tab, `location.reload()` by its own page does nothing; the tab's button reloads it.",
        "incumbent: nothing fails": "This project's own extension in the nested JupyterLab sends the request; "
        "it is not a fault of the proxy.",
    },
    how="It listens on a Unix socket that only you can open; the page is at `lab`.",
)
