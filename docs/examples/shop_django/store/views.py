"""What the web server answers. Programs call it, so it takes JSON, and asks no form for its token."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from queuekit import Result
from queuekit.errors import UnavailableError
from queuekit.ids import InvalidNameError
from store.models import Good, Line, Order
from store.tasks import app, handling, read_catalogue, shrink, write_invoice


@csrf_exempt
@require_POST
def orders(request: HttpRequest) -> HttpResponse:
    """Accept an order; tasks handle it once it is stored."""
    try:
        with transaction.atomic():
            order = _order(json.loads(request.body))
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        return JsonResponse({"detail": str(error)}, status=422)
    try:
        id = app.send(handling(order)).id
    except UnavailableError:
        order.delete()
        return JsonResponse({"detail": "try again"}, status=503, headers={"retry-after": "5"})
    return JsonResponse({"id": id}, status=202)


def _order(given: dict[str, Any]) -> Order:
    order = Order(number=given["number"], to=given["to"])
    order.full_clean()
    order.save()
    for row in given["lines"]:
        line = Line(order=order, good_id=row["good"], count=row["count"], price=row["price"])
        line.full_clean()
        line.save()
    return order


def pieces(_request: HttpRequest, good: str) -> HttpResponse:
    """Return how many pieces there are."""
    return JsonResponse({"pieces": get_object_or_404(Good, pk=good).pieces})


@csrf_exempt
@require_POST
def invoice(_request: HttpRequest, number: str) -> HttpResponse:
    """Have an invoice written."""
    return JsonResponse({"id": write_invoice.enqueue(number).id}, status=202)


@csrf_exempt
@require_POST
def picture(request: HttpRequest) -> HttpResponse:
    """Have a picture shrunk."""
    return JsonResponse({"id": shrink.enqueue(json.loads(request.body), 2).id}, status=202)


@csrf_exempt
@require_POST
async def catalogues(request: HttpRequest) -> HttpResponse:
    """Have a catalogue read."""
    result = await read_catalogue.aenqueue(json.loads(request.body))
    return JsonResponse({"id": result.id}, status=202)


@csrf_exempt
@require_http_methods(["DELETE"])
async def cancel(_request: HttpRequest, id: str) -> HttpResponse:
    """Stop reading a catalogue."""
    return JsonResponse({"cancelled": await (await _known(id)).acancel()})


async def events(_request: HttpRequest, id: str) -> StreamingHttpResponse:
    """Send the progress to the browser until the catalogue is read."""
    return StreamingHttpResponse(_events(await _known(id)), content_type="text/event-stream")


async def _events(result: Result[int]) -> AsyncIterator[str]:
    while not (info := await result.ainfo()).done:
        done, total, good = await result.aprogress() or (0, None, "")
        yield _event("progress", done=done, total=total, good=good)
        await asyncio.sleep(0.5)
    yield _event("end", state=info.state, error=info.error)


def _event(name: str, **data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def _known(id: str) -> Result[int]:
    """Return the handle on a catalogue that is being read; 404 if there is none."""
    try:
        result: Result[int] = app.result(id, read_catalogue.registered)
    except InvalidNameError:
        raise Http404 from None
    if (await result.ainfo()).task != read_catalogue.module_path:
        raise Http404
    return result
