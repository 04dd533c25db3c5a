"""What can go wrong between a client and the venue."""

from __future__ import annotations


class ClientError(Exception):
    """Anything that this package raises."""


class VenueRefused(ClientError):
    """The venue answered a request with an error; nothing was changed there.

    `code` and `message` are the venue's (Deribit's numbers where one exists), `data` is whatever
    it added, such as the name of the parameter or the reason behind a general code.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{code} {message}" + ("" if data is None else f" ({data})"))
        self.code, self.message, self.data = code, message, data


class ConnectionLost(ClientError):
    """The connection ended; whether an unanswered request took effect is not known.

    An order whose answer is missing may be sent again with the same `client_order_id`. `sent` is
    False where the request certainly never left.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class OutcomeUnknown(ConnectionLost):
    """The connection is back, but a request that cannot be repeated went unanswered meanwhile.

    A transfer of money is of this kind: ask for the balance before sending it again.
    """


class AnswerUnexpected(ClientError):
    """An answer that does not fit its request: wrong shape, or about another order."""
