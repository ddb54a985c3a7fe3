from __future__ import annotations

import re
from dataclasses import replace

import pytest

from jupyter_portproxy.diagnose.frameworks import FRAMEWORKS, recognize
from jupyter_portproxy.diagnose.rules import RULES
from jupyter_portproxy.diagnose.rules.finding import fill_in
from jupyter_portproxy.services.templates import shipped

from .observations import TARGET, observe


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/opt/bin/streamlit run app.py", "Streamlit"),
        ("python3 -m bokeh serve app.py", "Bokeh"),
        ("panel serve app.ipynb", "Panel"),
        ("node node_modules/.bin/vite --port 5173", "Vite"),
        ("node /x/node_modules/next/dist/bin/next start", "Next.js"),
        ("next-server (v16.4.6)", "Next.js"),
        ("node /x/node_modules/react-scripts/scripts/start.js", "Create React App"),
        ("node node_modules/.bin/vue-cli-service serve", "Vue CLI"),
        ("python manage.py runserver 8000", "Django"),
        ("puma 6.4 (tcp://localhost:3000) [shop]", "Ruby on Rails"),
        ("java -cp x org.springframework.boot.loader.JarLauncher", "Spring Boot"),
        ("/usr/share/grafana/bin/grafana server", "Grafana"),
        ("/usr/lib/rstudio-server/bin/rserver", "RStudio"),
        ("java -cp /opt/spark/jars/* org.apache.spark.deploy.SparkSubmit", "Spark"),
        ("python -m uvicorn main:app", "FastAPI"),
        ("python -m jupyterlab --port 9000", "Jupyter server"),
        ("python /x/bin/solara run app.py --port 8765", "Solara"),
        ("webpack   ", "webpack-dev-server"),  # a title in place of a command line leaves empty arguments
        ("node /x/node_modules/.bin/webpack serve --port 8080", "webpack-dev-server"),
        ("python /x/bin/datasette serve x.db", "Datasette"),
        ("python /x/bin/sqlite_web -x x.db", "sqlite-web"),
        ("python /x/bin/celery -A tasks flower --port=5555", "Flower"),
        ("python /x/bin/celery -A tasks worker", None),
        ("python /x/bin/sphinx-autobuild docs build", "sphinx-autobuild"),
        ("/opt/jupyter/bin/python app.py", None),
        ("python app.py", None),
    ],
)
def test_frameworks_by_their_command_line(command, name):
    found = recognize(observe("<p>", target=replace(TARGET, command=tuple(command.split(" ")))))
    assert (found.name if found is not None else None) == name


@pytest.mark.parametrize(
    ("html", "name"),
    [
        ('<script id="_dash-config" type="application/json">', "Dash"),
        ("<script>window.gradio_config = {}</script>", "Gradio"),
        ('<script src="/_next/static/chunks/main.js"></script>', "Next.js"),
        ('<script type="module" src="/@vite/client"></script>', "Vite"),
        ('<script defer="defer" src="/static/js/main.8d2f1c3b.js"></script><div id="root">', "Create React App"),
        ('<script defer="defer" src="/js/chunk-vendors.b1.js"></script>', "Vue CLI"),
        ('<input type="hidden" name="csrfmiddlewaretoken" value="x">', "Django"),
        ('<meta name="csrf-param" content="authenticity_token" />', "Ruby on Rails"),
        ("<h1>Whitelabel Error Page</h1>", "Spring Boot"),
        ('<body data-sveltekit-preload-data="hover"><script type="module" src="/@vite/client"></script>', "SvelteKit"),
        ('<script src="/proxy/port/8050/_nicegui/3.0/static/nicegui.js"></script>', "NiceGUI"),
        ('Powered by <a href="https://datasette.io/" title="Datasette v0.65">Datasette</a>', "Datasette"),
        ('<script id="jupyter-config-data" type="application/json">', "Jupyter server"),
        ('<script id="jupyter-config-data"></script><script src="/_solara/cdn/x@5.2.0/dist/main8.js"></script>', "Solara"),
        ("<script id='jupyter-config-data'></script><script>solaraInit('solara-main')</script>", "Solara"),
        ("<script>window.grafanaBootData = {}</script>", "Grafana"),
        ("<title>RStudio Server</title>", "RStudio"),
        ('<title>app - Spark Jobs</title><link href="/static/spark-dag-viz.css">', "Spark"),
    ],
)
def test_frameworks_by_their_markup(html, name):
    found = recognize(observe(html))
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("Server", "Werkzeug/3.1.3 Python/3.12", "Flask"),
        ("Server", "uvicorn", "FastAPI"),
        ("X-Powered-By", "Express", "Express"),
        ("X-Powered-By", "Next.js", "Next.js"),
        ("Set-Cookie", "csrftoken=abc; Path=/", "Django"),
        ("X-Runtime", "0.012345", "Ruby on Rails"),
        ("Set-Cookie", "solara-session-id=abc; Path=/; SameSite=lax", "Solara"),
        ("Server", "nginx", None),
    ],
)
def test_frameworks_by_a_field(field, value, name):
    found = recognize(observe("<p>", fields=[(field, value)]))
    assert (found.name if found is not None else None) == name


@pytest.mark.parametrize("template", sorted(shipped()))
def test_all_shipped_templates_are_recognized(template):
    found = recognize(observe("<p>", target=replace(TARGET, template=template)))
    assert found is not None
    assert template in found.templates


def test_remedies_have_known_topics_and_placeholders():
    topics = {rule.topic for rule in RULES} - {""}
    for framework in FRAMEWORKS:
        assert set(framework.remedies) <= topics, framework.name
        for remedy in fill_in([text for texts in framework.remedies.values() for text in texts], TARGET):
            assert not re.search(r"\{\w+\}", remedy), remedy
            assert remedy.endswith(".")


def test_every_framework_says_where_its_options_are_documented():
    assert all(framework.docs.startswith("https://") and framework.remedies for framework in FRAMEWORKS)
