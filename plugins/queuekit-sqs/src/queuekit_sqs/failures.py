"""Convert errors of the client library to ``UnavailableError``: one clear line without credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL

__all__ = ["PASSING", "code_of", "is_passing", "is_uncertain", "text_of", "unavailable"]

PASSING = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "KmsThrottled",
        "KMS.ThrottlingException",
        "LimitExceededException",
        "OverLimit",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""Codes of errors that pass by themselves."""
_SERVER_FAULT = 500
_FIXES = {
    "ExpiredToken": "The credentials have expired: renew them, e.g.  aws sso login",
    "InvalidClientTokenId": "AWS does not know the access key: see  aws sts get-caller-identity",
    "SignatureDoesNotMatch": "The secret access key is wrong: see  aws sts get-caller-identity",
    "NoCredentialsError": "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
    "NoRegionError": "Name the region in the URL or in AWS_REGION",
    "ProfileNotFound": "List the profiles:  aws configure list-profiles",
}
_ALIKE = {
    "ExpiredTokenException": "ExpiredToken",
    "RequestExpired": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "PartialCredentialsError": "NoCredentialsError",
    "CredentialRetrievalError": "NoCredentialsError",
    "SSOTokenLoadError": "ExpiredToken",
    "UnauthorizedSSOTokenError": "ExpiredToken",
}
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AWS.SimpleQueueService.AccessDenied"}
)
_STAYING = _DENIED | {
    "InvalidClientTokenId",
    "KMS.AccessDeniedException",
    "KMS.DisabledException",
    "KMS.NotFoundException",
    "KMS.OptInRequired",
    "KmsAccessDenied",
    "KmsDisabled",
    "KmsNotFound",
    "KmsOptInRequired",
    "NoCredentialsError",
    "NoRegionError",
    "NoSuchBucket",
    "ProfileNotFound",
    "SignatureDoesNotMatch",
}
"""Codes of errors that do not pass by themselves: wrong credentials, missing permissions or resources."""
_LONGEST = 200


def code_of(error: BaseException) -> str:
    """Return the service's code of an error, or the name of its class if the service did not answer."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    # For a JSON protocol, botocore returns the query-compatible code: "AWS.SimpleQueueService.NonExistentQueue".
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def text_of(error: BaseException) -> str:
    """Return the error message of the service, or else of the library."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Message") or error)


def is_uncertain(error: BaseException) -> bool:
    """Return whether the request may have succeeded in spite of *error*: no reply, or a server fault."""
    response = getattr(error, "response", None)
    return response is None or _status(error) >= _SERVER_FAULT


def is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed a moment later.

    Return false after a timeout: the caller decides how long to retry.
    """
    if getattr(error, "response", None) is None:
        return type(error).__name__ in {
            "ClosedConnectionError",
            "ConnectionClosedError",
            "HTTPClientError",
            "IncompleteReadError",
            "ResponseParserError",
            "ResponseStreamingError",
        }
    return code_of(error) in PASSING or _status(error) >= _SERVER_FAULT


def unavailable(error: BaseException, *, doing: str, url: EngineURL) -> UnavailableError:
    """Return the error to raise; *doing* names action and resource, e.g. ``sqs:SendMessage on shop-mail``."""
    code = code_of(error)
    kind = _ALIKE.get(code, code)
    fix = _FIXES.get(kind, "")
    if code in _DENIED:
        fix = f"Allow this action for these credentials: {doing}"
    if code.isdigit():  # an HTTP status instead of an AWS error code
        fix = "Check that SQS or DynamoDB listens there"
    text = url.hide(" ".join(text_of(error).split()))[:_LONGEST]
    # The reply to a wrong signature quotes the whole signed request, with its session token.
    said = "" if kind in {"SignatureDoesNotMatch", "InvalidClientTokenId"} or code in text else f": {text}"
    shown = text if code in text and code == type(error).__name__ else code + said
    passing = kind not in _STAYING and "CERTIFICATE_VERIFY_FAILED" not in text
    return UnavailableError(f"{doing} failed: {shown}", where=f"  {url}", fix=fix, passing=passing)


def _status(error: BaseException) -> int:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
