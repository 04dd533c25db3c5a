"""Requests over HTTP: parameters as text in the address (GET), or JSON-RPC in the body (POST).

Each request stands alone: it signs itself or carries a token in its `Authorization` header. An
error has status 400 (429 for rates, 500 where the venue failed) and the same body as on a socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from exchange.gateway.errors import INVALID_REQUEST, PARSE_ERROR, WireError, invalid_params
from exchange.gateway.session import Session
from exchange.gateway.strict_json import JsonRefused, check_json
from exchange.gateway.wire import answer, answer_frame, refusal

if TYPE_CHECKING:
    from exchange.gateway.dispatch import Dispatcher

JSON = "application/json"
TOO_MANY_REQUESTS, INTERNAL = 10028, 11094
STATUS = {0: 200, TOO_MANY_REQUESTS: 429, INTERNAL: 500}
_ENVELOPE = frozenset({"jsonrpc", "id", "method", "params"})
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _send_nothing(channel: str, frame: bytes) -> None:
    """A request over HTTP listens to nothing."""


def respond(body: bytes, code: int, status: int = 0) -> web.Response:
    """An encoded answer with the status of its error code."""
    return web.Response(body=body, status=status or STATUS.get(code, 400), content_type=JSON)


class HttpRequests:
    """The handlers of the three addresses."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    async def get(self, request: web.Request) -> web.Response:
        """GET /api/v2/{scope}/{method}?name=value: values are text."""
        try:
            params: dict[str, object] = {}
            for name, value in request.query.items():
                if name in params:
                    raise invalid_params(f"{name[:64]} comes twice", name[:64])
                params[name] = value
            session = self._session(request, b"")
        except WireError as error:
            return self._refused(error)
        body, code = await answer(self.dispatcher, session, _method(request), params)
        return respond(body, code)

    async def post(self, request: web.Request) -> web.Response:
        """POST /api/v2: a JSON-RPC object."""
        try:
            text = await request.read()
            session = self._session(request, text)
        except web.HTTPRequestEntityTooLarge:
            return self._too_large()
        except WireError as error:
            return self._refused(error)
        body, code = await answer_frame(self.dispatcher, session, text)
        return respond(body, code)

    async def post_method(self, request: web.Request) -> web.Response:
        """POST /api/v2/{scope}/{method}: a JSON-RPC object of this method, or its parameters."""
        method = _method(request)
        try:
            text = await request.read()
            session = self._session(request, text)
            fields = _object(text)
        except web.HTTPRequestEntityTooLarge:
            return self._too_large()
        except WireError as error:
            return self._refused(error)
        if not fields.keys() & _ENVELOPE:
            body, code = await answer(self.dispatcher, session, method, text or b"{}")
            return respond(body, code)
        if "method" not in fields:
            fields["method"] = msgspec.Raw(msgspec.json.encode(method))
            text = msgspec.json.encode(fields)
        elif _text(fields["method"]) != method:
            reason = "the method is not that of the address"
            return self._refused(WireError(INVALID_REQUEST, "Invalid Request", {"reason": reason}))
        body, code = await answer_frame(self.dispatcher, session, text)
        return respond(body, code)

    def _session(self, request: web.Request, body: bytes) -> Session:
        """Who sends the request. Raises `WireError` where it claims to be somebody wrongly."""
        session = Session(None, _send_nothing, lasting=False, address=request.remote or "")
        header = request.headers.getall("Authorization", ())
        if len(header) > 1:
            raise WireError(11050, "bad_request", {"reason": "more than one Authorization header"})
        if header:
            self.dispatcher.sessions.log_in(
                session, header[0], request.method, request.raw_path, body
            )
        return session

    def _refused(self, error: WireError) -> web.Response:
        return respond(refusal(self.dispatcher, error), error.code)

    def _too_large(self) -> web.Response:
        error = WireError(INVALID_REQUEST, "Invalid Request", {"reason": "the body is too long"})
        return respond(refusal(self.dispatcher, error), error.code, 413)


def _method(request: web.Request) -> str:
    return f"{request.match_info['scope']}/{request.match_info['method']}"


def _object(text: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a body, which may be empty. Raises `WireError`."""
    if not text.strip():
        return {}
    try:
        check_json(text)
        return _fields(text)
    except msgspec.ValidationError as error:
        raise WireError(INVALID_REQUEST, "Invalid Request", {"reason": str(error)}) from None
    except JsonRefused as error:
        if error.key:
            raise invalid_params(str(error), error.key) from None
        raise WireError(PARSE_ERROR, "Parse error", {"reason": str(error)}) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(PARSE_ERROR, "Parse error", {"reason": str(error)}) from None


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return None
