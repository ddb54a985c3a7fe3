"""Flask, with links and redirects as its documentation has them (`url_for`)."""

from .app import App, click, fill, upload

SCRIPT = """
from flask import Flask, redirect, request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)

@app.get("/")
def index():
    return f'''<h1>first page</h1><a href="{url_for('other', n=7)}">other</a>
      <form method=post action="{url_for('said')}"><input name=word></form>
      <form method=post enctype=multipart/form-data action="{url_for('sent')}">
      <input type=file name=file onchange="this.form.submit()"></form>
      <p id=events></p><script>
      new EventSource("{url_for('events')}").onmessage = e => document.querySelector("#events").textContent = e.data</script>'''

@app.get("/other/<int:n>")
def other(n):
    return f"<p>other page {n}</p>"

@app.post("/said")
def said():
    return redirect(url_for("echo", word=request.form["word"]))

@app.get("/echo/<word>")
def echo(word):
    return f"<p>said {word}</p>"

@app.post("/sent")
def sent():
    return f"<p>{len(request.files['file'].read())} bytes arrived</p>"

@app.get("/events")
def events():
    return app.response_class("data: an event\\n\\n", mimetype="text/event-stream")

@app.get("/favicon.ico")
def icon():
    return "", 204
"""

APP = App(
    name="flask",
    title="Flask",
    template="flask",
    pip=("flask",),
    arguments={"script": "flask_site.py"},
    files={"flask_site.py": SCRIPT},
    ready="text=first page",
    steps={
        "live": lambda frame: frame.locator("#events:has-text('an event')").wait_for(),
        "link": click("text=other", "text=other page 7"),
        "form": fill("input[name=word]", "hello", "text=said hello"),
        "upload": upload("input[type=file]", "text=12 bytes arrived"),
    },
    deep=("other/3", "text=other page 3"),
    how="Write links with `url_for`, and wrap the app once: `app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)`.",
    light=True,
)
