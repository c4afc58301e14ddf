"""A multi-tenant Django app in one file: a middleware names the tenant, and PostgreSQL shows only the tenant's notes.

It knows nothing of this package, and sets the tenant as many apps do: for the session. Django keeps the connection for
the next request, which may be another tenant's, or nobody's.

    DATABASE_HOST=one,two DATABASE_PORT=5432,5432 python django_app.py 8000

`application` is for WSGI servers, `asgi` for ASGI servers.
"""

import json
import os
import sys
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path


def tenant(get_response):
    """Name the tenant of a request to the database."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if name := request.headers.get("X-Tenant"):
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('app.tenant', %s, false)", [name])
        return get_response(request)

    return middleware


def notes(request: HttpRequest) -> HttpResponse:
    """Add a note, or show the notes that the tenant may see."""
    with connection.cursor() as cursor:
        if request.method == "POST":
            cursor.execute("INSERT INTO notes (text) VALUES (%s)", [request.body.decode()])
        cursor.execute("SELECT text FROM notes ORDER BY text")
        found = [text for (text,) in cursor.fetchall()]
    return HttpResponse(json.dumps(found), content_type="application/json")


urlpatterns = [path("", notes)]

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.tenant"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["DATABASE_HOST"],
            "PORT": os.environ["DATABASE_PORT"],
            "NAME": os.environ.get("DATABASE_NAME", "app"),
            "USER": os.environ.get("DATABASE_USER", "app"),
            "PASSWORD": os.environ.get("DATABASE_PASSWORD", ""),
            "CONN_MAX_AGE": None,
        }
    },
)
django.setup()
application = get_wsgi_application()
asgi = get_asgi_application()

if __name__ == "__main__":
    with make_server("127.0.0.1", int(sys.argv[1]), application) as server:
        server.serve_forever()
