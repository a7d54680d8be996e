"""The web server: ``uvicorn shop.web:web``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.requests import Request

from queuekit import Result
from queuekit.errors import UnavailableError
from queuekit.ids import InvalidNameError
from shop.store import Store
from shop.tasks import Order, app, handling, read_catalogue, shrink, store, write_invoice

web = FastAPI(lifespan=app.lifespan)


@web.exception_handler(UnavailableError)
async def unavailable(_request: Request, _error: Exception) -> JSONResponse:
    """Ask the browser to come back if the broker is down."""
    return JSONResponse({"detail": "try again"}, status_code=503, headers={"retry-after": "5"})


@web.post("/orders", status_code=202)
async def create(order: Order) -> dict[str, str]:
    """Accept an order; tasks handle it."""
    return {"id": (await app.asend(handling(order))).id}


@web.get("/goods/{good}")
async def pieces(good: str, store: Annotated[Store, Depends(store)]) -> int:
    """Return how many pieces there are, from the resource that tasks of this process would use."""
    return store.pieces[good]


@web.post("/invoices/{number}", status_code=202)
async def invoice(number: str) -> dict[str, Any]:
    """Have an invoice written."""
    result = await write_invoice.asend(number)
    return {"id": result.id, "duplicate": result.duplicate}


@web.post("/pictures", status_code=202)
async def picture(pixels: list[int]) -> dict[str, str]:
    """Have a picture shrunk."""
    return {"id": (await shrink.asend(pixels, 2)).id}


@web.post("/catalogues", status_code=202)
async def catalogue(rows: list[str]) -> dict[str, str]:
    """Have a catalogue read."""
    return {"id": (await read_catalogue.asend(rows)).id}


async def known(id: str) -> Result[int]:
    """Return the handle on a catalogue that is being read; 404 if there is none."""
    try:
        result = app.result(id, read_catalogue)
    except InvalidNameError:
        raise HTTPException(404) from None
    if (await result.ainfo()).task != read_catalogue.name:
        raise HTTPException(404)
    return result


Reading = Annotated[Result[int], Depends(known)]


@web.get("/catalogues/{id}/events", response_class=EventSourceResponse)
async def events(result: Reading) -> AsyncIterator[ServerSentEvent]:
    """Send the progress to the browser until the catalogue is read."""
    while not (info := await result.ainfo()).done:
        done, total, good = await result.aprogress() or (0, None, "")
        yield ServerSentEvent(event="progress", data={"done": done, "total": total, "good": good})
        await asyncio.sleep(0.5)
    yield ServerSentEvent(event="end", data={"state": info.state, "error": info.error})


@web.delete("/catalogues/{id}")
async def cancel(result: Reading) -> dict[str, bool]:
    """Stop reading a catalogue."""
    return {"cancelled": await result.acancel()}
