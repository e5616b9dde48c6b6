"""Why a request is refused: the API's `Status` object."""

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refusal(Exception):  # noqa: N818
    """A request that the API server refuses, with the HTTP status it answers."""

    def __init__(self, code: int, message: str, *, reason: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after
        self.reason = reason or REASONS.get(code, "Unknown")

    @property
    def status(self) -> dict[str, Any]:
        """Return the body that says so."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": {} if self.retry_after is None else {"retryAfterSeconds": self.retry_after},
            "code": self.code,
        }


def not_found(plural: str, name: str) -> Refusal:
    return Refusal(404, f'{qualified(plural)} "{name}" not found')


def invalid(kind: str, name: str, message: str) -> Refusal:
    return Refusal(422, f'{kind} "{name}" is invalid: {message}')


def too_old(asked: int, oldest: int) -> Refusal:
    return Refusal(410, f"too old resource version: {asked} ({oldest})")


def qualified(plural: str) -> str:
    """Return a resource's name as the API's messages have it."""
    return "jobs.batch" if plural == "jobs" else plural
