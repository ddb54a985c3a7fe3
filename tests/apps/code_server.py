"""code-server: its workbench; a file's text comes over its WebSocket."""

from .app import App, see


def open_file(frame):
    frame.locator(".explorer-folders-view [aria-label*='file.txt']").first.dblclick()
    see(frame, ".view-line:has-text('sesame')")


LEFT = "VS Code logs the requests that it cancels when a page is closed, also without a gateway, with varying messages."
WORKER = "Its service worker, which web views need, is refused at path-based URLs: open it at its isolated origin."
APP = App(
    name="code-server",
    title="code-server",
    template="code-server",
    arguments={"folder": "code"},
    files={"code/file.txt": "sesame"},
    directly={
        "command": ["code-server", "--auth", "none", "--disable-telemetry", "--disable-update-check", "--bind-addr",
                    "127.0.0.1:{port}", "{folder}"],
        "unix_socket": False,
    },
    ready=".explorer-folders-view [aria-label*='file.txt']",
    steps={"live": open_file},
    known={
        "path: nothing fails": f"{LEFT} {WORKER}",
        "origin: nothing fails": LEFT,
        "lab: nothing fails": LEFT,
    },
    heavy=True,
    how="`npm install code-server`, with the Node.js version of its manual, builds it in minutes. It needs no option for the "
    "origins that it accepts: `Origin`, `Host` and the forwarded fields agree.",
)  # fmt: skip
