"""Make requests without botocore's models, whose walk through every value takes most of the time of a call.

Both services use plain JSON. So botocore's event hooks serialize the parameters of the busiest operations, and parse
their replies, in one step. botocore still does signing, endpoints, connections and errors. Bytes in a reply are then
base64: see :func:`queuekit_sqs.items.read_record`.
"""

from __future__ import annotations

import base64
import json
from typing import Any

__all__ = ["take"]

_OPERATIONS = {
    "sqs": ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"),
    "dynamodb": ("TransactWriteItems", "BatchGetItem", "PutItem", "DeleteItem"),
}
_ASIDE = "queuekit_body"
_LEAST_ERROR = 300


def take(client: Any) -> None:
    """Install the fast path for the busiest operations of *client*, if it uses JSON."""
    model = client.meta.service_model
    if (getattr(model, "resolved_protocol", None) or model.metadata.get("protocol")) != "json":
        return
    events = client.meta.events
    for operation in _OPERATIONS.get(model.service_name, ()):
        name = f"{model.service_id.hyphenize()}.{operation}"
        events.register(f"provide-client-params.{name}", _set_aside)
        events.register(f"before-call.{name}", _write)
        events.register(f"before-parse.{name}", _read)


def _set_aside(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Serialize the parameters, and return copies for the model whose lists and dicts are empty."""
    context[_ASIDE] = json.dumps(params, separators=(",", ":"), default=_base64).encode()
    return {name: type(value)() if isinstance(value, (dict, list)) else value for name, value in params.items()}


def _write(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """Replace the empty body by the real one before it is signed."""
    params["body"] = context[_ASIDE]


def _read(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Parse a reply in one step; leave errors to the model."""
    if response_dict["status_code"] >= _LEAST_ERROR:
        return
    try:
        answer = json.loads(response_dict["body"])
    except ValueError:
        return
    customized_response_dict.update(answer)
    response_dict["body"] = b"{}"


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode()
