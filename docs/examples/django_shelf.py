"""The same with Django, in one file.

    gunicorn --threads 8 --chdir docs/examples django_shelf

Who asks is in a header here; in your site `request.user` says it, and your middleware checks forms.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.translation import get_language_from_request
from django.views.decorators.http import require_http_methods
from hosted_devices import HostedDevices

import palate

SECRET = bytes.fromhex(os.environ.get("SHELF_SECRET", "")) or palate.new_key()  # a real site keeps it
HOME = Path(os.environ.get("SHELF_HOME", "shelves"))
devices = HostedDevices(HOME, lambda user: hashlib.blake2b(user.encode(), key=SECRET, digest_size=32).digest())

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY=SECRET.hex(), USE_I18N=True)
    django.setup()


@require_http_methods(["POST"])
def agree(request: HttpRequest, purpose: str) -> JsonResponse:
    """The user agrees, after your page has asked."""
    with devices.of(request.headers["X-User"]) as device:
        decision = device.consent.grant(purpose, version="2026-01")  # type: ignore[arg-type] # checked there
    return JsonResponse({"granted": decision.granted})


@require_http_methods(["POST"])
def like(request: HttpRequest, book: str) -> JsonResponse:
    """Keep what the user did."""
    with devices.of(request.headers["X-User"]) as device:
        return JsonResponse({"outcome": device.track("like", book)})


@require_http_methods(["GET"])
def me(request: HttpRequest) -> HttpResponse:
    """The user's own page, in the language that Django chose."""
    with devices.of(request.headers["X-User"]) as device:
        return HttpResponse(device.page(language=get_language_from_request(request)))


@require_http_methods(["GET"])
def export(request: HttpRequest) -> StreamingHttpResponse:
    """All of the user's data, a line at a time."""
    user = request.headers["X-User"]

    def lines() -> Iterator[str]:
        with devices.of(user) as device:
            for line in device.export_lines():
                yield f"{line}\n"

    return StreamingHttpResponse(lines(), content_type="application/jsonl")


urlpatterns = [
    path("consent/<str:purpose>", agree),
    path("likes/<str:book>", like),
    path("me", me),
    path("me/export", export),
]
application = get_wsgi_application()
