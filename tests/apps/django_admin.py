"""Django's admin: login form, cross-site checks, links."""

from .app import App, see

SCRIPT = """
import os, sys
from django.conf import settings
prefix = os.environ["PREFIX"]
settings.configure(DEBUG=True, SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.abspath(os.environ["DB"])}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField", FORCE_SCRIPT_NAME=prefix or None, STATIC_URL="static/",
    INSTALLED_APPS=["django.contrib." + n for n in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {"context_processors":
        ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
         "django.contrib.messages.context_processors.messages"]}}])
import django
django.setup()
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path
from django.contrib.staticfiles.views import serve
urlpatterns = [path("admin/", admin.site.urls), path("static/<path:path>", serve),
    path("favicon.ico", lambda request: HttpResponse(status=204))]
if __name__ == "__main__":
    from django.core.management import call_command, execute_from_command_line
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    if not User.objects.exists():
        User.objects.create_superuser("ada", "a@b.c", "secret")
    execute_from_command_line(["manage", "runserver", "--noreload", "--nostatic", "127.0.0.1:" + os.environ["PORT"]])
"""


def log_in(frame):
    frame.locator("#id_username").fill("ada")
    frame.locator("#id_password").fill("secret")
    frame.locator("[type=submit]").click()
    see(frame, "text=Site administration")


def follow(frame):  # logged in since the form
    frame.locator("a:has-text('Users')").first.click()
    see(frame, "text=Select user to change")


APP = App(
    name="django",
    title="Django admin",
    template="django-site",
    pip=("django",),
    recipe={
        "command": ["python", "django_site.py"],
        "environment": {"PORT": "{port}", "PREFIX": "{prefix}", "DB": "{name}.sqlite3"},
    },
    files={"django_site.py": SCRIPT},
    start="admin/",
    ready="#header",
    steps={"form": log_in, "link": follow},
    deep=("admin/auth/user/", "text=Select user to change"),
    known={"lab: nothing fails": "Chromium focuses no field by itself in a frame of another site, and logs that."},
    how="`FORCE_SCRIPT_NAME` is the prefix, `STATIC_URL` is relative, and files come from a URL pattern or WhiteNoise: "
    "the files of `runserver` do not work below a prefix. It needs no `CSRF_TRUSTED_ORIGINS`.",
)
