"""A terminal in a page, over a WebSocket: terminado, as Jupyter's own."""

from .app import App, fill

SCRIPT = """
import sys
import terminado, tornado.ioloop, tornado.web

PAGE = '''<title>terminal</title><form><input name=line></form><pre id=out></pre><script>
const out = document.getElementById("out");
const socket = new WebSocket(new URL("socket", location.href).href.replace(/^http/, "ws"));
socket.onopen = () => { out.textContent = "connected"; };
socket.onmessage = event => { const [kind, text] = JSON.parse(event.data); if (kind === "stdout") out.textContent += text; };
document.forms[0].onsubmit = event => {
  event.preventDefault();
  socket.send(JSON.stringify(["stdin", document.forms[0].line.value + "\\\\r"]));
};</script>'''

class Page(tornado.web.RequestHandler):
    def get(self):
        self.finish(PAGE)

class Nothing(tornado.web.RequestHandler):
    def get(self):
        self.set_status(204)

terminals = terminado.UniqueTermManager(shell_command=["sh"])
sockets = ("/socket", terminado.TermSocket, {"term_manager": terminals})
tornado.web.Application([("/", Page), ("/favicon.ico", Nothing), sockets]).listen(int(sys.argv[1]), "127.0.0.1")
tornado.ioloop.IOLoop.current().start()
"""

APP = App(
    name="terminal",
    title="Web terminal (terminado)",
    template="web-terminal",
    pip=("terminado",),
    recipe={"command": ["python", "terminal.py", "{port}"]},
    files={"terminal.py": SCRIPT},
    ready="text=connected",
    steps={"live": fill("[name=line]", "echo $((6 * 7))", "#out:has-text('42')")},
    deep=("?x=1", "text=connected"),
    how="The URL of its socket is relative to the page; it needs no option.",
    light=True,
)
