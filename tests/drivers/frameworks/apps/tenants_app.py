"""A Django app on django-tenants in one file: a schema for each tenant, which the header of a request names.

DATABASE_HOST=one,two DATABASE_PORT=5432,5432 LIMIT_SET_CALLS=1 python tenants_app.py 8000
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
    """Choose the schema as `TenantMainMiddleware` does: first the public one, then that of the tenant."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.headers.get("X-Tenant") != "as before":
            connection.set_schema_to_public()
            if name := request.headers.get("X-Tenant"):
                connection.set_schema(name)
        return get_response(request)

    return middleware


def notes(request: HttpRequest) -> HttpResponse:
    """Add a note, or show the notes of the tenant."""
    with connection.cursor() as cursor:
        if request.method == "POST":
            cursor.execute("INSERT INTO notes (text) VALUES (%s)", [request.body.decode()])
        cursor.execute("SELECT text FROM notes ORDER BY text")
        found = [text for (text,) in cursor.fetchall()]
    return HttpResponse(json.dumps(found), content_type="application/json")


urlpatterns = [path("", notes)]

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes"],
    MIDDLEWARE=[f"{__name__}.tenant"],
    TENANT_LIMIT_SET_CALLS=bool(os.environ["LIMIT_SET_CALLS"]),
    DATABASES={
        "default": {
            "ENGINE": "django_tenants.postgresql_backend",
            "HOST": os.environ["DATABASE_HOST"],
            "PORT": os.environ["DATABASE_PORT"],
            "NAME": "app",
            "USER": "app",
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
