"""FastAPI with its docs page; that page asks a CDN for its scripts, which a test must not, so it stays in a page of its own."""

from .app import App, click, fill, upload

SCRIPT = """
from fastapi import FastAPI, Request, UploadFile, WebSocket
from fastapi.responses import HTMLResponse, RedirectResponse, Response

app = FastAPI()

@app.get("/", response_class=HTMLResponse)
def index(request: Request):
    return f'''<h1>first page</h1><a href="{request.url_for('other', n=7)}">other</a> <p id=live></p>
      <form action="{request.url_for('echo')}"><input name=word></form>
      <form method=post enctype=multipart/form-data action="{request.url_for('sent')}">
      <input type=file name=file onchange="this.form.submit()"></form>
      <script>const ws = new WebSocket("{request.url_for('talk')}"); ws.onopen = () => ws.send("hello");
      ws.onmessage = e => document.querySelector("#live").textContent = e.data</script>'''

@app.get("/other/{n}", response_class=HTMLResponse)
def other(n: int):
    return f"<p>other page {n}</p>"

@app.get("/echo", response_class=HTMLResponse)
def echo(word: str):
    return f"<p>said {word}</p>"

@app.post("/sent", response_class=HTMLResponse)
async def sent(file: UploadFile):
    return f"<p>{len(await file.read())} bytes arrived</p>"

@app.websocket("/talk")
async def talk(ws: WebSocket):
    await ws.accept()
    await ws.send_text("echo of " + await ws.receive_text())

@app.get("/favicon.ico")
def icon():
    return Response(status_code=204)
"""
COMMAND = ["python", "-m", "uvicorn", "fastapi_site:app", "--host", "127.0.0.1", "--port", "{port}"]
APP = App(
    name="fastapi",
    title="FastAPI",
    template="fastapi-site",
    pip=("fastapi", "uvicorn", "websockets", "python-multipart"),
    recipe={"command": [*COMMAND, "--root-path", "{prefix}"], "keep_host": True},
    files={"fastapi_site.py": SCRIPT},
    ready="text=first page",
    steps={
        "live": lambda frame: frame.locator("#live:has-text('echo of hello')").wait_for(),
        "link": click("text=other", "text=other page 7"),
        "form": fill("input[name=word]", "hello", "text=said hello"),
        "upload": upload("input[type=file]", "text=12 bytes arrived"),
    },
    deep=("openapi.json", "text=openapi"),
    how="Start it with `--root-path {prefix}`: the docs page at `docs` then has the prefix. `request.url_for` uses "
    "the `Host` that it receives: set `keep_host`, or write `request.url_for(...).path`.",
)
