"""The frameworks that the page doctor recognizes, and their own remedies. Data; pure.

A framework is recognized by the name of its service's template, the command line of its process, a response field, or the markup
of its page. The first entry that matches counts: what is built on another framework stands before it.

Remedies are by topic (`rules.finding.Topic`) and have the placeholders of rules. Each option was run, or stands in the
documentation of the framework, which `docs` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .observation import Observation

_MAX_MARKUP = 200_000  # characters of a page that are searched


@dataclass(frozen=True)
class Framework:
    """A framework or application.

    Attributes:
        templates: names of its templates.
        command: regular expression for the command line of its process.
        fields: names of response fields (lower case) -> regular expressions for their values.
        markup: regular expression for its pages.
        remedies: topic -> sentences, the best first.
        docs: where its options are documented.
        harmless: regular expression for URLs at the root in its own pages whose loss shows nowhere.
    """

    name: str
    docs: str
    templates: tuple[str, ...] = ()
    command: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    markup: str = ""
    remedies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    harmless: str = ""

    def matches(self, seen: Observation) -> bool:
        target = seen.target
        if target.template in self.templates:
            return True
        if self.command and re.search(self.command, " ".join((target.process, *target.command)), re.IGNORECASE):
            return True
        responses = [
            response for page in seen.of_kind("page") for response in (page.direct, page.proxied) if response is not None
        ]
        for name, pattern in self.fields.items():
            if any(re.search(pattern, value, re.IGNORECASE) for response in responses for value in response.all_fields(name)):
                return True
        return bool(self.markup) and any(re.search(self.markup, response.text[:_MAX_MARKUP]) for response in responses)


def recognize(seen: Observation) -> Framework | None:
    """The framework of a page; None for one that is not known."""
    return next((each for each in FRAMEWORKS if each.matches(seen)), None)


_OPEN = "and open `{absolute_prefix}/`."

FRAMEWORKS: tuple[Framework, ...] = (
    Framework(
        "Streamlit",
        "https://docs.streamlit.io/develop/api-reference/configuration/config.toml",
        ("streamlit",),
        r"\bstreamlit\b",
        {},
        r"<title>Streamlit</title>",
        {
            "prefix": (f"Start it with `--server.baseUrlPath {{absolute_prefix}}`, {_OPEN}",),
            "origin": ("Start it with `--server.corsAllowedOrigins {jupyter_origin}`.",),
        },
    ),
    Framework(
        "Gradio",
        "https://www.gradio.app/docs/gradio/blocks",
        ("gradio",),
        r"\bgradio\b",
        {},
        r"window\.gradio_config|<gradio-app",
        {"prefix": ('Set the variable `GRADIO_ROOT_PATH={prefix}`, or call `demo.launch(root_path="{prefix}")`.',)},
        r"/manifest\.json\Z",  # for installing it as a program of its own
    ),
    Framework(
        "Dash",
        "https://dash.plotly.com/reference#dash.dash",
        ("dash",),
        r"",
        {},
        r"_dash-config|_dash-renderer|id=\"react-entry-point\"",
        {
            "prefix": (
                "Set the variables `DASH_REQUESTS_PATHNAME_PREFIX={prefix}/` and `DASH_ROUTES_PATHNAME_PREFIX=/`.",
                "Write links with `dash.get_relative_path`, and files with `dash.get_asset_url`.",
            )
        },
    ),
    Framework(
        "Panel",
        "https://panel.holoviz.org/how_to/server/commandline.html",
        ("panel",),
        r"\bpanel\s+serve\b",
        {},
        r"static/extensions/panel/|/components/panel-",
        {
            "prefix": (
                f"Start it with `panel serve --prefix {{absolute_prefix}} --allow-websocket-origin localhost:{{port}}`, {_OPEN}",
            ),
            "origin": ("Start it with `--allow-websocket-origin localhost:{port}`.",),
        },
    ),
    Framework(
        "Bokeh",
        "https://docs.bokeh.org/en/latest/docs/reference/command/subcommands/serve.html",
        ("bokeh",),
        r"\bbokeh\s+serve\b",
        {},
        r"static/js/bokeh(?:-[\w.]+)?(?:\.min)?\.js",
        {
            "prefix": (
                f"Start it with `bokeh serve --prefix {{absolute_prefix}} --allow-websocket-origin localhost:{{port}}`, {_OPEN}",
            ),
            "origin": ("Start it with `--allow-websocket-origin localhost:{port}`.",),
        },
    ),
    Framework(
        "Voila",
        "https://voila.readthedocs.io/en/stable/customize.html",
        ("voila",),
        r"\bvoila\b",
        {},
        r"voila/(?:templates|static)/",
        {"prefix": (f"Start it with `--base_url={{absolute_prefix}}/`, {_OPEN}",)},
    ),
    Framework(
        "marimo",
        "https://docs.marimo.io/guides/deploying/",
        ("marimo",),
        r"\bmarimo\b",
        {},
        r"<marimo-",
        {
            "prefix": (f"Start it with `--base-url {{absolute_prefix}}`, {_OPEN}",),
            "origin": ("Start it with `--allow-origins {jupyter_origin}`.",),
        },
    ),
    Framework(
        "MLflow",
        "https://mlflow.org/docs/latest/api_reference/cli.html",
        ("mlflow",),
        r"\bmlflow\b",
        {},
        r"<title>MLflow</title>",
        {
            "prefix": (f"Start it with `--static-prefix {{absolute_prefix}}`, {_OPEN}",),
            "origin": (
                "Start it with `--allowed-hosts localhost:{port},{jupyter_authority}`, or set `MLFLOW_SERVER_ALLOWED_HOSTS`.",
            ),
            "frames": ("Start it with `--x-frame-options SAMEORIGIN`.",),
        },
    ),
    Framework(
        "TensorBoard",
        "https://github.com/tensorflow/tensorboard",
        ("tensorboard",),
        r"\btensorboard\b",
        {},
        r"<title>TensorBoard</title>",
        {"prefix": ("Start it without `--path_prefix`, and open `{prefix}/`: its links are relative.",)},
        r"/font-roboto/",  # without them, the browser's own fonts are shown
    ),
    Framework(
        "code-server",
        "https://coder.com/docs/code-server/guide",
        ("code-server",),
        r"\bcode-server\b",
        {},
        r"code-server|vscode-workbench",
        {
            "prefix": ("It needs no option for the prefix. Web views need its service worker: open it at its isolated origin.",),
            "origin": ("Start it with `--trusted-origins {jupyter_authority}`.",),
        },
    ),
    Framework(
        "RStudio",
        "https://docs.posit.co/ide/server-pro/rstudio-server-configuration.html",
        ("rstudio",),
        r"\b(?:rserver|rsession)\b",
        {"x-rstudio-root-path": r""},
        r"<title>RStudio|rstudio\.nocache\.js",
        {
            "prefix": ("Start it with `--www-root-path={prefix}`, or set `www-root-path={prefix}` in `rserver.conf`.",),
            "frames": ("Start it with `--www-frame-origin=same`, or set that in `rserver.conf`.",),
            "browsers": ("Start it with `--www-verify-user-agent=0`.",),
        },
    ),
    Framework(
        "Solara",  # its pages have Jupyter's `jupyter-config-data`, too
        "https://solara.dev/documentation/getting_started/deploying/self-hosted",
        (),
        r"\bsolara\s+run\b",
        {"set-cookie": r"\Asolara-session-id="},
        r"\b_solara/cdn/|[\"']solara-main[\"']",
        {"prefix": ("Set the variable `SOLARA_ROOT_PATH={prefix}`.",)},
    ),
    Framework(
        "Jupyter server",
        "https://jupyter-server.readthedocs.io/en/latest/other/full-config.html",
        ("jupyter",),
        r"\bjupyter[- ](?:lab|server|notebook|nbclassic)\b|-m jupyter(?:lab|_server)?\b",
        {},
        r"jupyter-config-data",
        {
            "prefix": (f"Start it with `--ServerApp.base_url={{absolute_prefix}}/`, {_OPEN}",),
            "origin": ("Start it with `--ServerApp.allow_remote_access=True --ServerApp.allow_origin=http://localhost:{port}`.",),
            "cookies": ("Start it with `--ServerApp.disable_check_xsrf=True`: Jupyter's own check stands before it.",),
            "frames": (
                'Set `c.ServerApp.tornado_settings = {"headers": {"Content-Security-Policy": "frame-ancestors \'self\'"}}`.',
            ),
        },
    ),
    Framework(
        "Shiny",
        "https://shiny.posit.co/py/docs/",
        ("shiny",),
        r"\bshiny\s+run\b",
        {},
        r"lib/shiny-[\d.]+/|shared/shiny(?:\.min)?\.js",
        {"prefix": ("Its own URLs are relative and need no option; let those of your app be relative, too.",)},
    ),
    Framework(
        "Grafana",
        "https://grafana.com/docs/grafana/latest/setup-grafana/configure-grafana/",
        ("grafana",),
        r"\bgrafana(?:-server)?\b",
        {},
        r"grafanaBootData",
        {
            "prefix": (
                "Set `GF_SERVER_ROOT_URL=%(protocol)s://%(domain)s:%(http_port)s{absolute_prefix}/` and "
                f"`GF_SERVER_SERVE_FROM_SUB_PATH=true`, {_OPEN}",
            ),
            "origin": (
                "Set `GF_SECURITY_CSRF_TRUSTED_ORIGINS={jupyter_host}`, and `GF_LIVE_ALLOWED_ORIGINS=*` for its WebSocket.",
            ),
            "frames": ("Set `GF_SECURITY_ALLOW_EMBEDDING=true`.",),
            "cookies": ("Set `GF_SECURITY_COOKIE_SECURE=false` and `GF_SECURITY_COOKIE_SAMESITE=lax`.",),
        },
    ),
    Framework(
        "Spark",
        "https://spark.apache.org/docs/latest/configuration.html#spark-ui",
        ("spark",),
        r"org\.apache\.spark|\bspark-submit\b",
        {},
        r"spark-dag-viz|static/sparkui|<title>[^<]{0,200}Spark (?:Jobs|Master|Worker|shell)",
        {
            "prefix": (
                "Open it at `server/{port}/` below the base URL: Spark takes its base path from a field of this server, and its "
                "scripts take a path with `proxy` in it for a cluster's.",
            )
        },
    ),
    Framework(
        "Next.js",
        "https://nextjs.org/docs/app/api-reference/config/next-config-js/basePath",
        ("next", "nextjs"),
        r"\bnext(?:-server|\s+dev|\s+start)\b",
        {"x-powered-by": r"next\.js"},
        r"/_next/static/|__NEXT_DATA__",
        {
            "prefix": (f'Set `basePath: "{{absolute_prefix}}"` in `next.config.js`, build it again, {_OPEN}',),
            "origin": ('Set `allowedDevOrigins: ["{jupyter_host}"]` in `next.config.js`.',),
        },
    ),
    Framework(
        "SvelteKit",
        "https://svelte.dev/docs/kit/configuration#paths",
        (),
        "",
        {},
        r"__sveltekit_|data-sveltekit-",
        {
            "prefix": (f'Set `paths: {{ base: "{{absolute_prefix}}" }}` in the configuration of SvelteKit, {_OPEN}',),
            "origin": ('Set `server: { allowedHosts: ["{jupyter_host}"] }` in `vite.config.js`.',),
        },
    ),
    Framework(
        "Vite",
        "https://vite.dev/config/shared-options.html#base",
        ("vite",),
        r"\bvite\b",
        {},
        r"/@vite/client|Blocked request\. This host",
        {
            "prefix": (f"Start it with `vite --base {{absolute_prefix}}/`, {_OPEN}", "For a build: `vite build --base ./`."),
            "origin": ('Set `server: { allowedHosts: ["{jupyter_host}"] }` in `vite.config.js`.',),
        },
    ),
    Framework(
        "Vue CLI",
        "https://cli.vuejs.org/config/#publicpath",
        ("vue",),
        r"\bvue-cli-service\b",
        {},
        r"doesn't work properly without JavaScript enabled|js/chunk-vendors\b",
        {
            "prefix": ('Set `publicPath: "./"` in `vue.config.js`, and build it again. The router needs the base `{prefix}/`.',),
            "origin": ('Set `devServer: { allowedHosts: "all" }` in `vue.config.js`.',),
        },
    ),
    Framework(
        "Angular",
        "https://angular.dev/tools/cli/deployment",
        (),
        r"\bng\s+serve\b",
        {},
        r"<app-root[\s>]|\bng-version=",
        {"prefix": ("Build it with `ng build --base-href ./`, or start it with `ng serve --serve-path {absolute_prefix}/`.",)},
    ),
    Framework(
        "Create React App",
        "https://create-react-app.dev/docs/advanced-configuration",
        (),
        r"\breact-scripts\b",
        {},
        r"static/js/(?:bundle|main)(?:\.[0-9a-f]{8})?(?:\.chunk)?\.js|You need to enable JavaScript to run this app",
        {
            "prefix": (
                'Set `"homepage": "."` in `package.json`, and build it again. A router needs the `basename` `{prefix}`.',
                "For the development server, set the variable `WDS_SOCKET_PATH={prefix}/ws`.",
            ),
            "origin": ("Set the variable `DANGEROUSLY_DISABLE_HOST_CHECK=true` for the development server.",),
        },
    ),
    Framework(
        "webpack-dev-server",
        "https://webpack.js.org/configuration/dev-server/#websocketurl",
        (),
        r"\bwebpack(?:\s+serve\b|-dev-server\b|\s*\Z)",  # the title of its process is `webpack`
        {},
        "",
        {
            "prefix": (
                "Start it with `--client-web-socket-url auto://0.0.0.0:0{prefix}/ws`; for its isolated origin it is "
                "`auto://0.0.0.0:0/ws`.",
            ),
            "origin": ("Start it with `--allowed-hosts {jupyter_host}`.",),
        },
        r"/webpack-dev-server/open-editor",  # opens a file of an error in an editor
    ),
    Framework(
        "Django",
        "https://docs.djangoproject.com/en/stable/ref/settings/",
        ("django",),
        r"\bmanage\.py\b|\bdjango\b",
        {"set-cookie": r"^csrftoken=", "server": r"^WSGIServer/.*CPython"},
        r"csrfmiddlewaretoken|DisallowedHost|CSRF verification failed|<h1>Bad Request \(400\)</h1>",
        {
            "prefix": ('Set `FORCE_SCRIPT_NAME = "{prefix}"` and a relative `STATIC_URL = "static/"` in `settings.py`.',),
            "origin": (
                'Set `ALLOWED_HOSTS = ["localhost", "{jupyter_host}"]` in `settings.py`; for forms, '
                '`CSRF_TRUSTED_ORIGINS = ["http://localhost:{port}"]`.',
            ),
            "frames": ('Set `X_FRAME_OPTIONS = "SAMEORIGIN"` in `settings.py`.',),
            "https": ("Set `SECURE_SSL_REDIRECT = False` in `settings.py`.",),
            "scheme": ('Set `SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")` in `settings.py`.',),
            "cookies": (
                "Set `SESSION_COOKIE_NAME`, and `SESSION_COOKIE_SECURE` and `CSRF_COOKIE_SECURE` to `False`, in `settings.py`.",
            ),
        },
    ),
    Framework(
        "Ruby on Rails",
        "https://guides.rubyonrails.org/configuring.html",
        ("rails",),
        r"\brails\b|\bpuma\b",
        {"x-runtime": r"^[0-9.]+$"},
        r"csrf-param\" content=\"authenticity_token|Blocked hosts?:|ActionController::",
        {
            "prefix": (
                "Set `RAILS_RELATIVE_URL_ROOT={absolute_prefix}`, write `map Rails.application.config.relative_url_root do` "
                f"around `run` in `config.ru`, {_OPEN}",
            ),
            "origin": ('Set `config.hosts << "localhost" << "{jupyter_host}"` in `config/environments/development.rb`.',),
            "frames": ('Set `config.action_dispatch.default_headers["X-Frame-Options"] = "SAMEORIGIN"`.',),
            "https": ("Set `config.force_ssl = false`.",),
            "cookies": ("Set `config.force_ssl = false`, and the session's `key` in `config/initializers/session_store.rb`.",),
        },
    ),
    Framework(
        "Spring Boot",
        "https://docs.spring.io/spring-boot/how-to/webserver.html",
        (),
        r"spring-?boot|org\.springframework",
        {"x-application-context": r""},
        r"Whitelabel Error Page|Invalid CORS request",
        {
            "prefix": (
                "Set `server.forward-headers-strategy=framework`: it then takes the prefix from `X-Forwarded-Prefix`.",
                f"Or set `server.servlet.context-path={{absolute_prefix}}`, {_OPEN}",
            ),
            "origin": ("Add `http://localhost:{port}` to the allowed origins of its CORS configuration.",),
            "frames": ("In Spring Security: `http.headers(h -> h.frameOptions(f -> f.sameOrigin()))`.",),
            "scheme": ("Set `server.forward-headers-strategy=framework`.",),
            "cookies": ("Set `server.servlet.session.cookie.secure=false` and `server.servlet.session.cookie.same-site=lax`.",),
        },
    ),
    Framework(
        "Prometheus",
        "https://prometheus.io/docs/prometheus/latest/command-line/prometheus/",
        (),
        r"\bprometheus\b",
        {},
        r"<title>Prometheus",
        {"prefix": ("Start it with `--web.external-url={prefix}/ --web.route-prefix=/`.",)},
    ),
    Framework(
        "Dask",
        "https://docs.dask.org/en/stable/dashboard.html",
        (),
        r"\bdask[ -]scheduler\b",
        {},
        r"<title>Dask",
        {"prefix": (f"Start it with `--dashboard-prefix {{absolute_prefix}}`, {_OPEN}",)},
    ),
    Framework(
        "NiceGUI",
        "https://nicegui.io/documentation/section_configuration_deployment",
        (),
        "",
        {},
        r"/_nicegui/",
        {
            "prefix": (
                "Its own URLs have the prefix of `X-Forwarded-Prefix` and need no option; let those of your HTML be relative.",
            )
        },
    ),
    Framework(
        "Datasette",
        "https://docs.datasette.io/en/stable/settings.html#base-url",
        (),
        r"\bdatasette\b",
        {},
        r"<a href=\"https://datasette\.io/\"",
        {"prefix": ("Start it with `--setting base_url {prefix}/`, and open `{prefix}/`.",)},
    ),
    Framework(
        "sphinx-autobuild",
        "https://github.com/sphinx-doc/sphinx-autobuild",
        (),
        r"\bsphinx-autobuild\b",
        {},
        "",
        {
            "prefix": (
                "Its live reload has a fixed address: on your own computer run `jupyter portproxy forward {port}`, and open "
                "`http://localhost:{port}/`. Or reload the page yourself.",
            )
        },
    ),
    Framework(
        "Flower",
        "https://flower.readthedocs.io/en/latest/config.html#url-prefix",
        (),
        r"\bcelery\b.{0,200}\bflower\b",
        {},
        r"<title>Flower</title>",
        {"prefix": (f"Start it with `--url_prefix={{absolute_prefix}}`, {_OPEN}",)},
    ),
    Framework(
        "FastAPI",
        "https://fastapi.tiangolo.com/advanced/behind-a-proxy/",
        (),
        r"\b(?:uvicorn|hypercorn|fastapi)\b",
        {"server": r"^uvicorn"},
        "",
        {
            "prefix": ("Start it with `uvicorn --root-path {prefix}`, and write links with `request.url_for(...).path`.",),
            "origin": (
                "Add `localhost` to `allowed_hosts` of `TrustedHostMiddleware`, and `http://localhost:{port}` to `allow_origins` "
                "of `CORSMiddleware`.",
            ),
            "https": ("Remove `HTTPSRedirectMiddleware`.",),
            "scheme": ("Start it with `uvicorn --proxy-headers --forwarded-allow-ips 127.0.0.1`.",),
        },
    ),
    Framework(
        "sqlite-web",
        "https://github.com/coleifer/sqlite-web",
        (),
        r"\bsqlite[_-]web\b",
        {},
        "",
        {"prefix": (f"Start it with `--url-prefix {{absolute_prefix}}`, {_OPEN}",)},
    ),
    Framework(
        "Flask",
        "https://flask.palletsprojects.com/en/stable/deploying/proxy_fix/",
        ("flask",),
        r"\bflask\b",
        {"server": r"^Werkzeug"},
        "",
        {
            "prefix": ("Write links with `url_for`, and wrap the app: `app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)`.",),
            "origin": ("Add `localhost` to `TRUSTED_HOSTS` of `app.config`.",),
            "https": ("With Flask-Talisman: `Talisman(app, force_https=False)`.",),
            "scheme": ("Wrap the app: `app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1, x_prefix=1)`.",),
            "cookies": ('Set `app.config["SESSION_COOKIE_NAME"]`, and `SESSION_COOKIE_SECURE` to `False`.',),
        },
    ),
    Framework(
        "python -m http.server",
        "https://docs.python.org/3/library/http.server.html",
        ("http-server",),
        r"\bhttp\.server\b",
        {},
        "",
        {"prefix": ("Write the URLs in the files relative to the page: the server has no option for a base path.",)},
    ),
    Framework(
        "Express",
        "https://expressjs.com/en/guide/behind-proxies.html",
        (),
        "",
        {"x-powered-by": r"^Express"},
        "",
        {"prefix": (f'Mount the app at the prefix: `root.use("{{absolute_prefix}}", app)`, {_OPEN}',)},
    ),
)
