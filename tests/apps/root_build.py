"""A single-page app that is built for `/`, as Create React App and Vite do by default: all its URLs begin at the root."""

from .app import App, click

PAGE = "<h1>hello build</h1><div id=root></div><script type=module src=/main.js></script><link rel=icon href='data:,'>"
MAIN = """
import './style.css';
const page = location.pathname.match(/other\\/(\\d+)$/);
const root = document.getElementById('root');
root.innerHTML = page ? `<p>other page ${page[1]}</p>` : '<a href=/other/7>other</a> <button>ask</button> <p id=told></p>';
root.querySelector('button')?.addEventListener('click', async () => {
  root.querySelector('#told').textContent = (await (await fetch('/data.json')).json()).text;
});
"""
APP = App(
    name="root-build",
    title="Single-page app built for `/`",
    template="root-build",
    npm=("vite",),
    recipe={
        "command": ["sh", "-c", "npx vite build && exec npx vite preview --host 127.0.0.1 --port {port} --strictPort"],
        "cwd": "built",
    },
    files={
        "built/index.html": PAGE,
        "built/main.js": MAIN,
        "built/style.css": "#told { background: url(/spot.png) }",
        "built/public/spot.png": "no picture, but a file",
        "built/public/data.json": '{"text": "the server has answered"}',
        "built/package.json": '{"type": "module"}',
    },
    links={"built/node_modules": ".venv/apps/node/node_modules"},
    ready="text=hello build",
    steps={"live": click("text=ask", "text=the server has answered"), "link": click("text=other", "text=other page 7")},
    deep=("other/3", "text=other page 3"),
    how="At path-based URLs the requests of such pages are redirected by their `Referer`. A router that compares the whole path "
    "with its own needs the prefix (`basename` of React Router), or the isolated origin.",
)
