"""Requests about the session itself: who it is, whether it lives, what its end means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from exchange.core.commands import CancelOrder
from exchange.core.engine import VERSION
from exchange.gateway import parameters as p
from exchange.gateway.authentication import (
    Authenticator,
    Identity,
    invalid_credentials,
    session_text,
)
from exchange.gateway.batch_view import Readiness
from exchange.gateway.errors import WireError, invalid_params
from exchange.gateway.session import Ending, Session
from exchange.sequencer import SequencerStopped

if TYPE_CHECKING:
    from exchange.gateway.order_history import OrderHistory
    from exchange.gateway.publisher import Publisher
    from exchange.gateway.queries import Query
    from exchange.sequencer import Sequencer

NORMAL_CLOSURE, POLICY_VIOLATION = 1000, 1008
TOKEN = "access_token"  # noqa: S105 - the name of a parameter
ORDERS_SLACK = 1_000  # done orders that a session remembers beside its open ones
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def must_be_websocket() -> WireError:
    """10030: the method is about a connection, and a request over HTTP has none."""
    return WireError(10030, "must_be_websocket_request", {"reason": "use it over a WebSocket"})


class SessionMethods:
    """What sessions ask about themselves. Without an authenticator nobody can log in."""

    def __init__(self, sequencer: Sequencer, history: OrderHistory, publisher: Publisher,
                 readiness: Readiness, authenticator: Authenticator | None) -> None:  # fmt: skip
        self.sequencer, self.history, self.publisher = sequencer, history, publisher
        self.readiness, self.authenticator = readiness, authenticator
        self.cancel_by_default: dict[int, None] = {}

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {
            "public/auth": self._auth,
            "public/hello": self._hello,
            "public/set_heartbeat": _of_connection(self._set_heartbeat),
            "public/disable_heartbeat": _of_connection(self._disable_heartbeat),
            "public/unsubscribe_all": _of_connection(self._unsubscribe_public),
            "private/unsubscribe_all": _of_connection(self._unsubscribe_user),
            "private/logout": _of_connection(self._logout),
            "private/enable_cancel_on_disconnect": self._enable_cancel,
            "private/disable_cancel_on_disconnect": self._disable_cancel,
            "private/get_cancel_on_disconnect": self._get_cancel,
        }

    # Who it is

    def identify(self, session: Session, identity: Identity) -> None:
        """Make a session act for an account. Raises `WireError` 13007 where there is none.

        What it listened to and owned in another account's name is dropped.
        """
        account = self.sequencer.engine.state.accounts.number_of.get(identity.account)
        if account is None:
            reason = f"the account {identity.account!r} of the key is not open"
            raise WireError(13007, "user_not_found", {"reason": reason})
        if session.account not in (None, account):
            self._leave_account(session)
        if session.account != account:
            session.cancel_on_disconnect = session.lasting and account in self.cancel_by_default
        session.account, session.scopes = account, identity.scopes
        session.key_id = identity.key_id

    def _leave_account(self, session: Session) -> None:
        for channel in [name for name in session.channels if name.startswith("user.")]:
            self.publisher.unsubscribe(self.sequencer.engine.state, session, channel)
        self.cancel_orders(session)
        self.readiness.leave(session)
        session.orders.clear()

    def log_in(self, session: Session, header: str, method: str, address: str,
               body: bytes) -> None:  # fmt: skip
        """Identify the sender of a request over HTTP by its header.

        `address` is the path and query as they were sent. Raises `WireError` 13004 or 13009.
        """
        self.identify(session, self._keys().by_header(header, method, address, body))

    def take_token(
        self, session: Session, params: bytes | Mapping[str, object]
    ) -> bytes | Mapping[str, object]:
        """The parameters without an access token; one that was there has identified the session.

        Raises `WireError` 13009 for a token that opens nothing, or another account than the
        session's.
        """
        if isinstance(params, bytes):
            if b'"access_token"' not in params:
                return params
            try:
                fields = _fields(params)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return params  # the decoder of the method says what is wrong with it
            if TOKEN not in fields:
                return params
            try:
                token = msgspec.json.decode(fields.pop(TOKEN), type=str)
            except msgspec.DecodeError:
                raise invalid_params("access_token must be a text", TOKEN) from None
            params = msgspec.json.encode(fields)
        else:
            if TOKEN not in params:
                return params
            token = str(params[TOKEN])
            params = {name: value for name, value in params.items() if name != TOKEN}
        identity = self._keys().by_token(token)
        account = self.sequencer.engine.state.accounts.number_of.get(identity.account)
        if session.account not in (None, account):
            reason = "the token is another account's; log out first"
            raise WireError(13009, "unauthorized", {"reason": reason})
        self.identify(session, identity)
        return params

    def _keys(self) -> Authenticator:
        if self.authenticator is None:
            raise invalid_credentials("this market has no keys")
        return self.authenticator

    def _auth(self, session: Session, params: p.AuthParameters) -> dict[str, object]:
        try:
            identity = self._identity(params)
            if params.grant_type != "refresh_token":
                identity = identity.narrowed_to(params.scope)
            if session.lasting:
                self.identify(session, identity)
        except WireError as error:
            if params.grant_type == "client_signature":
                # ccxt.pro dies silently of an error frame, with all its streams; of an end it
                # tells its caller. It is known by its nonce, which repeats the timestamp.
                alone = params.nonce == str(params.timestamp) and not params.scope
                reason = f"{error.code} {error.message}"
                session.ending = Ending(POLICY_VIOLATION, reason, unanswered=alone)
            raise
        granted = self._keys().grant(identity, params.scope)
        return {**granted, "state": params.state} if params.state else granted

    def _identity(self, params: p.AuthParameters) -> Identity:
        keys, grant = self._keys(), params.grant_type
        needed = p.NEEDED_BY_GRANT[grant]
        for name in needed:
            if getattr(params, name) in ("", None):
                raise invalid_params(f"the grant {grant} needs {name}", name)
        if grant == "client_credentials":
            return keys.by_credentials(params.client_id, params.client_secret)
        if grant == "refresh_token":
            return keys.exchange(params.refresh_token)
        timestamp = str(params.timestamp)
        text = session_text(timestamp, params.nonce, params.data)
        return keys.by_signature(params.client_id, timestamp, text, params.signature)

    def _logout(self, session: Session, params: p.LogoutParameters) -> str:
        """The connection ends after the answer; its orders stay, whatever was agreed."""
        session.cancel_on_disconnect = False
        session.ending = Ending(NORMAL_CLOSURE, "logged out")
        if params.invalidate_token and self.authenticator is not None:
            self.authenticator.revoke(session.key_id)
        return "ok"

    # Whether it lives

    def _hello(self, session: Session, params: p.HelloParameters) -> dict[str, object]:
        return {"version": VERSION}

    def _set_heartbeat(self, session: Session, params: p.HeartbeatParameters) -> str:
        session.heartbeat_s = params.interval
        return "ok"

    def _disable_heartbeat(self, session: Session, params: p.NoParameters) -> str:
        session.heartbeat_s = 0
        return "ok"

    # What it listens to

    def _unsubscribe_public(self, session: Session, params: p.NoParameters) -> str:
        return self._unsubscribe_all(session, of_users=False)

    def _unsubscribe_user(self, session: Session, params: p.NoParameters) -> str:
        return self._unsubscribe_all(session, of_users=True)

    def _unsubscribe_all(self, session: Session, *, of_users: bool) -> str:
        state = self.sequencer.engine.state
        for channel in list(session.channels):
            if of_users or not channel.startswith("user."):
                self.publisher.unsubscribe(state, session, channel)
        return "ok"

    # What its end does

    def _enable_cancel(self, session: Session, params: p.DisconnectParameters) -> str:
        return self._set_cancel(session, params.scope, enabled=True)

    def _disable_cancel(self, session: Session, params: p.DisconnectParameters) -> str:
        return self._set_cancel(session, params.scope, enabled=False)

    def _set_cancel(self, session: Session, scope: str, *, enabled: bool) -> str:
        assert session.account is not None
        if scope == "connection":
            if not session.lasting:
                raise must_be_websocket()
            session.cancel_on_disconnect = enabled
        elif enabled:
            self.cancel_by_default[session.account] = None
        else:
            self.cancel_by_default.pop(session.account, None)
        return "ok"

    def _get_cancel(self, session: Session, params: p.DisconnectParameters) -> dict[str, object]:
        assert session.account is not None
        if params.scope == "account":
            enabled = session.account in self.cancel_by_default
        elif session.lasting:
            enabled = session.cancel_on_disconnect
        else:
            raise must_be_websocket()
        return {"enabled": enabled, "scope": params.scope}

    def entered(self, session: Session, order_id: int) -> None:
        """Remember an order of this connection; those long done are forgotten now and then."""
        if not session.lasting or session.account is None:
            return
        session.orders[order_id] = None
        still = self.history.of(session.account).open
        if len(session.orders) > 2 * len(still) + ORDERS_SLACK:
            session.orders = {known: None for known in session.orders if known in still}

    def cancel_orders(self, session: Session) -> None:
        """Queue the cancels of a connection that ends, where it asked for them."""
        if not session.cancel_on_disconnect or session.account is None:
            return
        open_orders = self.history.of(session.account).open
        try:
            for order_id in [known for known in session.orders if known in open_orders]:
                future = self.sequencer.submit(CancelOrder, session.account, order_id)
                future.add_done_callback(_heed)
        except SequencerStopped:
            pass  # nothing can be cancelled any more; the orders are still in the journal


def _heed(future: Any) -> None:
    """Nobody waits for this answer; a venue that stopped meanwhile says so elsewhere."""
    if not future.cancelled():
        future.exception()


def _of_connection(query: Callable[[Session, Any], object]) -> Query:
    """A query that is refused over HTTP."""

    def answered(session: Session, params: object) -> object:
        if not session.lasting:
            raise must_be_websocket()
        return query(session, params)

    return answered
