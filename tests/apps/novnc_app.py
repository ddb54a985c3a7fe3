"""noVNC: a terminal window of a desktop in the page; what is typed goes there over a WebSocket, and its picture comes back."""

from .app import App

# Debian's noVNC 1.3 opens its socket at a path below the root: this page makes that of its own address.
INDEX = """<title>desk</title><link rel=icon href="data:,"><script>
const path = new URL("websockify", location.href).pathname.slice(1);
const page = "novnc/vnc.html?" + new URLSearchParams({ autoconnect: true, path });
onload = () => setTimeout(() => location.replace(page), 100);
</script>"""
START = """
import os, subprocess, sys, tempfile
folder = tempfile.mkdtemp()
screen = subprocess.Popen(["Xtigervnc", "-displayfd", "1", "-rfbunixpath", f"{folder}/vnc", "-rfbport", "-1", "-SecurityTypes",
    "None", "-geometry", "800x600", "-nolisten", "tcp"], stdout=subprocess.PIPE, text=True)
display = ":" + screen.stdout.readline().strip()
subprocess.Popen(["xterm", "-display", display, "-fa", "monospace", "-geometry", "200x80+0+0", "-bg", "black"])
os.execvp("websockify", ["websockify", "--web=desk", f"--unix-target={folder}/vnc", f"127.0.0.1:{sys.argv[1]}"])
"""
RED = """() => {
  const canvas = document.querySelector("canvas"), [red, green] = canvas.getContext("2d").getImageData(400, 300, 1, 1).data;
  return red > 200 && green < 50;
}"""


def type_there(frame):
    """The terminal is told to be red."""
    frame.wait_for_function("() => document.querySelector('canvas').getContext('2d').getImageData(400, 300, 1, 1).data[3] > 0")
    frame.locator("canvas").first.click()
    frame.page.keyboard.type("printf '\\033]11;red\\007'\n", delay=20)
    frame.wait_for_function(RED)


APP = App(
    name="novnc",
    title="noVNC and websockify",
    template="novnc-desk",
    debian=("novnc", "websockify", "tigervnc-standalone-server", "xterm"),
    recipe={"command": ["python", "desk.py", "{port}"]},
    files={"desk/index.html": INDEX, "desk.py": START},
    links={"desk/novnc": "/usr/share/novnc"},
    ready="canvas",
    steps={"live": type_there},
    deep=("novnc/vnc.html", "#noVNC_connect_button"),
    how="The `path` of noVNC 1.3's socket is relative to the root: open it with `path=` the prefix and `/websockify`, without "
    "the first slash, or serve a page that derives it from its own address.",
)
