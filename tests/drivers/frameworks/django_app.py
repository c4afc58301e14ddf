"""A Django app in a process of its own, called as a WSGI server calls it, on a persistent connection.

Its arguments are JSON. It prints, as JSON, what each request saw, and the spans of the wrapper. A layer above Django
sets the tenant of the request whenever a cursor is made, as django-tenants does, and knows what it has set.
"""

import json
import logging
import sys
import types
from wsgiref.util import setup_testing_defaults

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import instrumented_wrapper

given = json.loads(sys.argv[1])
logging.basicConfig(format="%(message)s", level=logging.WARNING)
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
instrumented_wrapper.instrument(tracer_provider=provider, query_spans="off", **given["options"])
for hidden in given["hidden"]:
    sys.modules[hidden] = None
if given["as_mysqldb"]:
    import pymysql

    pymysql.install_as_MySQLdb()

import django  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

settings.configure(
    DATABASES={"default": {"CONN_MAX_AGE": None, **given["database"]}},
    ROOT_URLCONF="__main__",
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="not a secret",
    USE_TZ=True,
)
layered = given["database"]["ENGINE"]
if given["layer"]:
    base = __import__(f"{layered}.base", fromlist=["DatabaseWrapper"])

    class DatabaseWrapper(base.DatabaseWrapper):
        tenant = known = None

        def _cursor(self, name=None):
            cursor = super()._cursor(name) if name else super()._cursor()
            if self.tenant != self.known:
                self.known = self.tenant
                cursor.execute(given["sets"].format(self.tenant))
            return cursor

        def close(self):
            self.known = None
            super().close()

    for name in ("layer", "layer.base"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["layer.base"].DatabaseWrapper = DatabaseWrapper
    settings.DATABASES["default"]["ENGINE"] = "layer"
django.setup()


def ask(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return None if row is None or row[0] is None else str(row[0])


def answer(request):
    """Be the request of a tenant, and say what the session is."""
    tenant = request.GET.get("tenant")
    if given["layer"]:
        connection.tenant = tenant or "nobody"
    elif tenant:
        ask(given["sets"].format(tenant))
    with transaction.atomic():
        return HttpResponse(json.dumps([ask(given["shows"]), ask(given["number"])]))


urlpatterns = [path("", answer)]
application = get_wsgi_application()


def request(query):
    environ = {"QUERY_STRING": query}
    setup_testing_defaults(environ)
    with provider.get_tracer("app").start_as_current_span(f"GET {query}"):
        response = application(environ, lambda *_: None)
        body = b"".join(response)
    response.close()  # the request has ended
    return json.loads(body)


seen = []
for query in given["requests"]:
    if query == "lose":
        print(json.dumps(seen[-1][1]), flush=True)
        sys.stdin.readline()
    elif query == "raw":
        raw = connection.connection
        state = instrumented_wrapper.session_state(raw)
        seen.append({name: [s.pristine_value, s.value] for name, s in state.items()})
    else:
        seen.append(request(query))
names = {span.context.span_id: span.name for span in exporter.get_finished_spans()}
spans = [
    [span.name, [names.get(link.context.span_id) for link in span.links], span.parent is None]
    for span in exporter.get_finished_spans()
    if span.name.split(".")[0] in ("session_state", "failover") and "pristine" not in span.name
]
print(json.dumps({"seen": seen, "spans": spans}), flush=True)
connection.close()
if hasattr(connection, "close_pool"):
    connection.close_pool()
