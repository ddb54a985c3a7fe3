"""A Vite dev server with hot reload. Its page asks for a change of a source file, and must show it without being reloaded."""

from playwright.sync_api import Frame

from .app import App

PAGE = "<button id=change>change</button><p id=text></p><script type=module src=/main.js></script>"
MAIN = """
import { text } from '/text.js';
const say = text => { document.getElementById('text').textContent = text; };
say(text);
document.getElementById('change').onclick = () => fetch(import.meta.env.BASE_URL + 'change', { method: 'POST' });
import.meta.hot.accept('/text.js', fresh => say(fresh.text));
"""
CONFIG = """
import { writeFileSync } from 'node:fs';
const change = (request, response, next) => {
  if (!request.url.endsWith('/change')) return next();
  writeFileSync('text.js', `export const text = 'version ${Date.now()}';`);
  response.end();
};
export default { plugins: [{ name: 'change', configureServer: server => { server.middlewares.use(change); } }] };
"""


def hot(frame: Frame) -> None:
    before = frame.locator("#text").text_content() or ""
    frame.evaluate("window.kept = 'kept'")
    frame.locator("#change").click()
    frame.locator("#text", has_not_text=before).wait_for()
    assert frame.evaluate("window.kept") == "kept", "the page was reloaded"


APP = App(
    name="vite",
    title="Vite dev server",
    npm=("vite",),
    template="vite",
    arguments={"folder": "front"},
    files={
        "front/index.html": PAGE,
        "front/main.js": MAIN,
        "front/text.js": "export const text = 'version 0';",
        "front/vite.config.js": CONFIG,
        "front/package.json": '{"type": "module"}',
    },
    links={"front/node_modules": ".venv/apps/node/node_modules"},
    ready="text=version",
    steps={"live": hot},
    deep=("some/page", "text=version"),
    light=True,
    how="The template sets `--base`. At its isolated origin a server that was started by hand needs no option.",
)
