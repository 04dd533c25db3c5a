"""JSON-RPC 2.0 frames: what a client's bytes mean, and the bytes that answer it.

Every transport goes through `serve`, so a client in the same process sees exactly what one behind
a socket sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from exchange.gateway.errors import INVALID_REQUEST, PARSE_ERROR, WireError, invalid_params
from exchange.gateway.session import Session
from exchange.gateway.strict_json import JsonRefused, check_json

if TYPE_CHECKING:
    from exchange.gateway.dispatch import Dispatcher

FRAME_BYTES_MAX = 1 << 16
_NULL = msgspec.Raw(b"null")
_EMPTY = msgspec.Raw(b"{}")
_NO_IDS = (b"{", b"[", b"t", b"f")


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as it arrives; `id` and `params` stay JSON text until somebody needs them.

    Other fields beside these mean nothing: ccxt.pro puts its caller's options there. Those of
    `params` are strict.
    """

    method: str
    id: msgspec.Raw = _NULL
    params: msgspec.Raw = _EMPTY
    jsonrpc: str = "2.0"


class ErrorObject(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The error of an answer."""

    code: int
    message: str
    data: dict[str, object] | None = None


class Answer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A successful answer; times are microseconds of the venue's clock, spelled as Deribit does."""

    jsonrpc: str = "2.0"
    id: msgspec.Raw
    result: object
    usIn: int
    usOut: int
    usDiff: int
    testnet: bool = True


class Refusal(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An answer that is an error."""

    jsonrpc: str = "2.0"
    id: msgspec.Raw
    error: ErrorObject
    usIn: int
    usOut: int
    usDiff: int
    testnet: bool = True


encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode


def notification(channel: str, data: bytes) -> bytes:
    """The frame of a notification whose `data` is encoded already."""
    name = encode(channel)
    return (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":%b,"data":%b}}'
        % (name, data)
    )  # fmt: skip


def _decoded(frame: bytes | str) -> tuple[Request, WireError | None]:
    """A request, and what is wrong with it although it could be read.

    Raises `WireError` where it could not, so that nothing is known of its id.
    """
    if len(frame) > FRAME_BYTES_MAX:
        raise _invalid_request("the frame is too long")
    twice = None
    try:
        check_json(frame)
    except JsonRefused as error:
        if not error.key:
            raise WireError(PARSE_ERROR, "Parse error", {"reason": str(error)}) from None
        twice = error
    try:
        request = decode_request(frame)
    except msgspec.ValidationError as error:
        raise _invalid_request(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(PARSE_ERROR, "Parse error", {"reason": str(error)}) from None
    if bytes(request.id)[:1] in _NO_IDS:
        raise _invalid_request("an id is a number, a text or null")
    if twice is not None:
        return request, _twice(request, twice)
    if request.jsonrpc != "2.0":
        return request, _invalid_request("jsonrpc must be 2.0")
    return request, None


def _twice(request: Request, found: JsonRefused) -> WireError:
    """Two equal keys: in the parameters, or in the request itself, whose id may be either."""
    try:
        check_json(bytes(request.params))
    except JsonRefused as error:
        return invalid_params(str(error), error.key)
    raise _invalid_request(str(found))


def _invalid_request(reason: str) -> WireError:
    return WireError(INVALID_REQUEST, "Invalid Request", {"reason": reason})


async def answer(
    dispatcher: Dispatcher,
    session: Session,
    method: str,
    params: bytes | Mapping[str, object] = b"{}",
    request_id: msgspec.Raw = _NULL,
) -> tuple[bytes, int]:
    """The encoded answer to a request, and its error's code (0 for a result).

    Never raises for anything that a client asks. What does pass through is a stopped sequencer
    and broken invariants: after those nothing may be answered.
    """
    in_us = dispatcher.now_ns() // 1000
    try:
        result = await dispatcher.handle(session, method, params)
        out_us = dispatcher.now_ns() // 1000
        return encode(Answer(id=request_id, result=result, usIn=in_us, usOut=out_us,
                             usDiff=out_us - in_us)), 0  # fmt: skip
    except WireError as error:
        return refusal(dispatcher, error, request_id, in_us), error.code


def refusal(dispatcher: Dispatcher, error: WireError, request_id: msgspec.Raw = _NULL,
            in_us: int | None = None) -> bytes:  # fmt: skip
    """The encoded answer that is this error."""
    out_us = dispatcher.now_ns() // 1000
    in_us = out_us if in_us is None else in_us
    wrong = ErrorObject(error.code, error.message, error.data)
    return encode(
        Refusal(id=request_id, error=wrong, usIn=in_us, usOut=out_us, usDiff=out_us - in_us)
    )


async def answer_frame(
    dispatcher: Dispatcher, session: Session, frame: bytes | str
) -> tuple[bytes, int]:
    """The encoded answer to one JSON-RPC text, and its error's code; see `answer`."""
    try:
        request, flaw = _decoded(frame)
    except WireError as error:
        return refusal(dispatcher, error), error.code
    if flaw is not None:
        return refusal(dispatcher, flaw, request.id), flaw.code
    return await answer(dispatcher, session, request.method, bytes(request.params), request.id)


async def serve(
    dispatcher: Dispatcher, session: Session, frame: bytes | str, reply: Callable[[bytes], None]
) -> None:
    """Answer one frame through `reply`, then release what the answer lets follow; see `answer`."""
    encoded, _ = await answer_frame(dispatcher, session, frame)
    if session.ending is None or not session.ending.unanswered:
        reply(encoded)
    session.release()
