"""The Django example with an asynchronous view: its queries run in the thread that Django gives to each request."""

import django_app
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.urls import path


async def notes(request: HttpRequest) -> HttpResponse:
    """Do as the example does."""
    return await sync_to_async(django_app.notes)(request)


django_app.urlpatterns[:] = [path("", notes)]
asgi = django_app.asgi
