"""JSON-RPC 2.0 frames: what a client's bytes mean, and the bytes that answer it.

Every transport goes through `serve`, so a client in the same process sees exactly what one behind
a socket sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from exchange.gateway.errors import INVALID_REQUEST, PARSE_ERROR, WireError
from exchange.gateway.session import Session

if TYPE_CHECKING:
    from exchange.gateway.dispatch import Dispatcher

FRAME_BYTES_MAX = 1 << 20
_NULL = msgspec.Raw(b"null")
_EMPTY = msgspec.Raw(b"{}")


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as it arrives; `id` and `params` stay JSON text until somebody needs them."""

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


def _checked(frame: bytes | str) -> Request:
    if len(frame) > FRAME_BYTES_MAX:
        raise WireError(INVALID_REQUEST, "Invalid Request", {"reason": "the frame is too long"})
    try:
        return decode_request(frame)
    except msgspec.ValidationError as error:
        raise WireError(INVALID_REQUEST, "Invalid Request", {"reason": str(error)}) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(PARSE_ERROR, "Parse error", {"reason": str(error)}) from None


async def serve(
    dispatcher: Dispatcher, session: Session, frame: bytes | str, reply: Callable[[bytes], None]
) -> None:
    """Answer one frame through `reply`, then release what the answer lets follow.

    Never raises for anything that a client sends. What does pass through is a stopped sequencer
    and broken invariants: after those nothing may be answered.
    """
    now_us = dispatcher.now_ns() // 1000
    request_id = _NULL
    answer: Answer | Refusal
    try:
        request = _checked(frame)
        request_id = request.id
        result = await dispatcher.handle(session, request.method, bytes(request.params))
        out_us = dispatcher.now_ns() // 1000
        answer = Answer(id=request_id, result=result, usIn=now_us, usOut=out_us,
                        usDiff=out_us - now_us)  # fmt: skip
    except WireError as error:
        out_us = dispatcher.now_ns() // 1000
        refusal = ErrorObject(error.code, error.message, error.data)
        answer = Refusal(id=request_id, error=refusal, usIn=now_us, usOut=out_us,
                         usDiff=out_us - now_us)  # fmt: skip
    reply(encode(answer))
    session.release()
