"""The one table of methods and channels: names, permissions, parameters, results, examples.

Validation, the written reference and the tests all read this table; names and units are Deribit's
except where the text says ours. Examples run against the `tiny` venue, whose one contract is
BTC_USDC-PERPETUAL.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from exchange.gateway import parameters as p
from exchange.gateway import query_parameters as q


class Permission(StrEnum):
    """What a session needs: nothing, or an account with a scope."""

    PUBLIC = "public"
    READ = "read"
    TRADE = "trade"


class Method(msgspec.Struct, frozen=True):
    """One method."""

    name: str
    permission: Permission
    parameters: type[p.Parameters]
    description: str
    result: str
    example: str = "{}"


class Channel(msgspec.Struct, frozen=True):
    """One family of channels; X stands for an instrument name."""

    name: str
    permission: Permission
    description: str
    payload: str
    example: str


PUBLIC, READ, TRADE = Permission.PUBLIC, Permission.READ, Permission.TRADE
PERPETUAL = '{"instrument_name":"BTC_USDC-PERPETUAL"}'
ORDER_ANSWER = "object: `order` (the order object), `trades` (always empty)"
TRADES = "object: `trades` (list), `has_more`"
CURRENCY = '{"currency":"USDC","count":100}'
WINDOW = (
    '{"instrument_name":"BTC_USDC-PERPETUAL","start_timestamp":1767225600000,'
    '"end_timestamp":1767229200000%s}'
)
ORDER = '{"instrument_name":"BTC_USDC-PERPETUAL","amount":0.01,"type":"limit","price":%s}'

# What the simulated outside venue `harbour` of clients.outside_venue says of an account.
_SIGNED = (
    '{"purpose": "uncross attestation 1", "venue": "tiny", "outside_venue": "harbour", '
    '"account": "ann", "sequence": 1, "timestamp": 1767225600000, '
    '"balances": {"USDC": "2500.5"}, "positions": {"BTC_USDC-PERPETUAL": "-0.1"}}'
)
EXAMPLE_ATTESTATION = msgspec.json.encode({
    "attestation": _SIGNED,
    "signature": "b075570bdac64551b2d932919cf799519f5dc613dc6c4c7f1b098bd67d6d4de9"
                 "0bc9c7cc55d77cd4b8f0db5b4ecbd0e6e945dc69ac5f3e8ab7c9a5b9dbd09f03",
}).decode()  # fmt: skip

METHODS: tuple[Method, ...] = (
    Method("public/get_time", PUBLIC, p.NoParameters, "The venue's time.", "milliseconds"),
    Method("public/status", PUBLIC, p.NoParameters, "Whether the venue takes requests.",
           'object: `locked` ("true" or "false"), `locked_indices`'),
    Method("public/test", PUBLIC, p.TestParameters, "Proof of life of both sides.",
           "object: `version`"),
    Method("public/hello", PUBLIC, p.HelloParameters, "Who the client is; the answer is the same.",
           "object: `version`", '{"client_name":"reader","client_version":"1"}'),
    Method("public/auth", PUBLIC, p.AuthParameters,
           "Log in. The connection then stays logged in; requests over HTTP sign themselves or "
           "carry the token. A signature that fails ends the connection.",
           "object: `access_token`, `refresh_token`, `expires_in` (s), `scope`, `token_type`",
           '{"grant_type":"client_credentials","client_id":"ann-key","client_secret":"ann-secret"}'),
    Method("public/set_heartbeat", PUBLIC, p.HeartbeatParameters,
           "Ask for signs of life, of notifications `heartbeat`; a `test_request` among them must "
           "be followed by a request (`public/test`), or the connection ends.", '"ok"',
           '{"interval":30}'),
    Method("public/disable_heartbeat", PUBLIC, p.NoParameters, "Ask for none any more.", '"ok"'),
    Method("public/get_currencies", PUBLIC, p.NoParameters, "Currencies that accounts hold.",
           "list: `currency`, `currency_long`, `decimals`, `withdrawal_fee`"),
    Method("public/get_instruments", PUBLIC, p.InstrumentsParameters,
           "Contracts, running or (`expired`) over. Linear contracts are filed under USDC, inverse "
           "ones under their coin.",
           "list of instruments", '{"currency":"USDC","kind":"future"}'),
    Method("public/get_instrument", PUBLIC, p.OfInstrument, "One contract.", "instrument",
           PERPETUAL),
    Method("public/ticker", PUBLIC, p.OfInstrument,
           "Last print, marks, best disclosed prices, statistics of 24 hours; Greeks of options.",
           "ticker", PERPETUAL),
    Method("public/get_order_book", PUBLIC, p.OrderBookParameters,
           "The ticker with the curve disclosed after the last print.",
           "ticker with `bids`, `asks` ([price, amount], best first) and `change_id`",
           '{"instrument_name":"BTC_USDC-PERPETUAL","depth":10}'),
    Method("public/get_last_trades_by_instrument", PUBLIC, p.TradesParameters,
           "Public trades: one an auction.", TRADES,
           '{"instrument_name":"BTC_USDC-PERPETUAL","count":100}'),
    Method("public/get_last_trades_by_instrument_and_time", PUBLIC, p.TradesParameters,
           "The same.", TRADES, '{"instrument_name":"BTC_USDC-PERPETUAL","start_timestamp":0}'),
    Method("public/get_last_trades_by_currency", PUBLIC, q.CurrencyTradesParameters,
           "Public trades of the contracts filed under a currency.", TRADES, CURRENCY),
    Method("public/get_last_trades_by_currency_and_time", PUBLIC, q.CurrencyTradesParameters,
           "The same.", TRADES, '{"currency":"USDC","start_timestamp":0}'),
    Method("public/get_book_summary_by_currency", PUBLIC, q.SummariesOfBooksParameters,
           "Running contracts that settle in a currency or are about it, each in short.",
           "list of book summaries", '{"currency":"BTC","kind":"future"}'),
    Method("public/get_book_summary_by_instrument", PUBLIC, p.OfInstrument,
           "One contract in short.", "list of one book summary", PERPETUAL),
    Method("public/get_tradingview_chart_data", PUBLIC, q.ChartParameters,
           "Candles of the prints, at most the newest 5,000.",
           "object of columns: `ticks`, `open`, `high`, `low`, `close`, `volume` (coins), `cost`; "
           "`status` (ok, no_data)", WINDOW % ',"resolution":"60"'),
    Method("public/get_funding_rate_value", PUBLIC, q.FundingParameters,
           "What a unit of notional of a long position paid, to ten minutes.", "number",
           WINDOW % ""),
    Method("public/get_funding_rate_history", PUBLIC, q.FundingParameters,
           "Funding by the hour, oldest first.",
           "list: `timestamp`, `index_price`, `prev_index_price`, `interest_1h`, `interest_8h`",
           WINDOW % ""),
    Method("public/get_last_settlements_by_instrument", PUBLIC, q.SettlementsParameters,
           "Deliveries at expiry, and positions that the insurance fund took over.",
           "object: `settlements` (`type`, `timestamp`, `instrument_name`, `mark_price`, "
           "`index_price`; takeovers: `position`, `funded`, `session_bankruptcy` and "
           "`session_bankrupcy`, in coin), `continuation` (`none` at the end)",
           '{"instrument_name":"BTC_USDC-PERPETUAL","type":"bankruptcy"}'),
    Method("public/get_index_price_names", PUBLIC, p.NoParameters, "The indices of the contracts.",
           "list of names"),
    Method("public/get_index_price", PUBLIC, p.IndexParameters, "An index now.",
           "object: `index_price`, `estimated_delivery_price`, `timestamp`",
           '{"index_name":"btc_usdc"}'),
    Method("public/get_batch", PUBLIC, p.BatchParameters,
           "Ours: the running batch, of the market or of one contract.",
           "object: as in the channel `batch`", "{}"),
    Method("public/subscribe", PUBLIC, p.ChannelsParameters,
           "Listen to public channels. Unknown ones are left out, not refused.",
           "list of the channels that were accepted",
           '{"channels":["book.BTC_USDC-PERPETUAL.raw"]}'),
    Method("public/unsubscribe", PUBLIC, p.ChannelsParameters, "Stop listening.",
           "list of the channels that were removed",
           '{"channels":["book.BTC_USDC-PERPETUAL.raw"]}'),
    Method("public/unsubscribe_all", PUBLIC, p.NoParameters,
           "Stop listening to all public channels.", '"ok"'),
    Method("private/logout", READ, p.LogoutParameters,
           "End the connection after the answer. Its orders stay.", '"ok"'),
    Method("private/enable_cancel_on_disconnect", TRADE, p.DisconnectParameters,
           "Withdraw the orders that were entered over this connection when it ends, however it "
           "ends, but not after a logout.", '"ok"', '{"scope":"connection"}'),
    Method("private/disable_cancel_on_disconnect", TRADE, p.DisconnectParameters, "Do not.",
           '"ok"'),
    Method("private/get_cancel_on_disconnect", READ, p.DisconnectParameters,
           "Whether it will be done.", "object: `enabled`, `scope`"),
    Method("private/unsubscribe_all", READ, p.NoParameters, "Stop listening to all channels.",
           '"ok"'),
    Method("private/subscribe", READ, p.ChannelsParameters,
           "Listen to public and user channels. Unknown ones are left out, not refused.",
           "list of the channels that were accepted",
           '{"channels":["user.orders.any.any.raw"]}'),
    Method("private/unsubscribe", READ, p.ChannelsParameters, "Stop listening.",
           "list of the channels that were removed",
           '{"channels":["user.orders.any.any.raw"]}'),
    Method("private/buy", TRADE, p.OrderParameters,
           "Enter an order to buy into the running batch. It is answered `open` without trades; "
           "what it trades comes with the auction. Post-only: refused (11054) where it would have "
           "traded at the last print.", ORDER_ANSWER, ORDER % "99000.5"),
    Method("private/sell", TRADE, p.OrderParameters, "The same to sell.", ORDER_ANSWER,
           ORDER % "101000"),
    Method("private/edit", TRADE, p.EditParameters,
           "Change an open limit order; a better claim takes the age of the running batch.",
           ORDER_ANSWER, '{"order_id":"1","amount":0.02,"price":99500}'),
    Method("private/cancel", TRADE, p.OfOrder, "Withdraw an order.", "the order object",
           '{"order_id":"1"}'),
    Method("private/cancel_all", TRADE, p.CancelAllParameters, "Withdraw all orders.",
           "how many, or (`detailed`) the list of orders"),
    Method("private/cancel_all_by_instrument", TRADE, p.CancelInstrumentParameters,
           "Withdraw all orders in a contract.", "how many, or (`detailed`) the list of orders",
           PERPETUAL),
    Method("private/cancel_by_label", TRADE, p.CancelLabelParameters,
           "Withdraw all orders with a label, in the contracts filed under a currency if given.",
           "how many", '{"label":"mine"}'),
    Method("private/close_position", TRADE, p.CloseParameters,
           "Enter a reduce-only order of the size of the position against it.", ORDER_ANSWER,
           '{"instrument_name":"BTC_USDC-PERPETUAL","type":"market"}'),
    Method("private/get_order_state", READ, p.OfOrder, "An order by its identifier.",
           "the order object", '{"order_id":"1"}'),
    Method("private/get_order_state_by_client_order_id", READ, p.OfClientOrder,
           "Ours: an order by the client's identifier.", "the order object",
           '{"client_order_id":"mine-1"}'),
    Method("private/get_open_orders", READ, p.OpenOrdersParameters, "Open orders, oldest first.",
           "list of orders"),
    Method("private/get_open_orders_by_instrument", READ, p.OpenInstrumentParameters,
           "Open orders in a contract, oldest first.", "list of orders", PERPETUAL),
    Method("private/get_open_orders_by_currency", READ, q.OpenCurrencyParameters,
           "Open orders in the contracts filed under a currency, oldest first.", "list of orders",
           '{"currency":"USDC"}'),
    Method("private/get_order_history_by_instrument", READ, p.HistoryParameters,
           "Orders that are done, newest first.", "list of orders", PERPETUAL),
    Method("private/get_order_history_by_currency", READ, q.CurrencyHistoryParameters,
           "The same in the contracts filed under a currency.", "list of orders", CURRENCY),
    Method("private/get_user_trades_by_instrument", READ, p.TradesParameters,
           "Own trades: one an order and auction.", TRADES, PERPETUAL),
    Method("private/get_user_trades_by_instrument_and_time", READ, p.TradesParameters,
           "The same.", TRADES, '{"instrument_name":"BTC_USDC-PERPETUAL","start_timestamp":0}'),
    Method("private/get_user_trades_by_currency", READ, q.CurrencyTradesParameters,
           "Own trades in the contracts filed under a currency.", TRADES, CURRENCY),
    Method("private/get_user_trades_by_currency_and_time", READ, q.CurrencyTradesParameters,
           "The same.", TRADES, '{"currency":"USDC","start_timestamp":0}'),
    Method("private/get_user_trades_by_order", READ, q.OrderTradesParameters,
           "Own trades of an order, newest first.", "list of user trades", '{"order_id":"1"}'),
    Method("private/get_positions", READ, p.PositionsParameters,
           "Positions that are not flat, one a contract and margin pool.",
           "list of positions; ours: `margin_mode`, `pool_id`", '{"currency":"any"}'),
    Method("private/get_position", READ, p.OfInstrument,
           "The position in a contract, in the margin pool that its orders fill into.",
           "position, of direction `zero` where there is none", PERPETUAL),
    Method("private/get_account_summary", READ, p.SummaryParameters,
           "Money of a currency; margins are those of all margin pools, converted into it.",
           "account summary; ours: `pools`, each with `pool_id`, `account_id`, `kind` (cross, "
           "isolated, portfolio, group), `name`, `instrument_name`, `parent_pool_id`, its margins "
           "in USDC, `balances`", '{"currency":"USDC"}'),
    Method("private/get_account_summaries", READ, p.SummariesParameters, "Money of all currencies.",
           "object: `id`, `username`, `summaries`"),
    Method("private/get_margin_calls", READ, p.NoParameters,
           "Ours: the margin calls and liquidations that stand.",
           "list: as in the channel `user.margin_calls`; at most one a margin pool"),
    Method("private/get_margins", READ, q.MarginsParameters,
           "What an order would add to the initial margin of the pool that it fills into, in the "
           "currency that the contract settles in, and the prices that an order can meet.",
           "object: `buy`, `sell`, `min_price`, `max_price`",
           '{"instrument_name":"BTC_USDC-PERPETUAL","amount":0.1,"price":100000}'),
    Method("private/simulate_portfolio", READ, q.SimulateParameters,
           "Margin of a pool if it had other positions, bought and sold at the mark. Nothing is "
           "changed. Margins are the whole pool's, converted into the currency.",
           "object: `pool_id`, `currency`, `model`, `add_positions`, `positions` ({instrument: "
           "size}), `margin_balance`, `available_funds`, `attested_credit`, `initial_margin` (with "
           "open orders, `open_orders_margin` of it), `maintenance_margin`, `total_*_usd` of "
           "these, "
           "`worst_scenarios` (`underlying`, `scenario`, `loss` in USDC)",
           '{"currency":"USDC","simulated_positions":"{\\"BTC_USDC-PERPETUAL\\":0.5}"}'),
    Method("private/explain_margin", READ, q.ExplainParameters,
           "Ours: every number behind a pool's margin, as `uncross margin --json` prints it: "
           "scenarios, each position's part of the worst one, charges, offsets between underlyings "
           "(charges below 0), haircuts and what of them is for size, distances to a call and to "
           "liquidation. Whole minor units (10^-6 USDC). `forecast` says what margin the pool's "
           "own model forecasts for it.",
           "object: `margin.reasons.explanation.Explanation`, and `forecast`: `horizon_cycles`, "
           "`initial_minor` (the most initial margin in them), `call_probability_ppb` (x 10^9); "
           "null where the model that is asked is not the pool's own or does not forecast, or "
           "the pool holds no position"),
    Method("private/get_margin_pools", READ, p.NoParameters,
           "Ours: all pools of the account, and of its sub-accounts: money, equity, margins.",
           "list of pools, as in `pools` of private/get_account_summary"),
    Method("private/open_margin_pool", TRADE, p.OpenPoolParameters,
           "Ours: open a margin pool: `isolated` for one contract, `portfolio` with a name, or "
           "`group`, behind the cross pools of this account and its sub-accounts. It starts empty.",
           "object: a pool, as in `pools` of private/get_account_summary",
           '{"kind":"isolated","instrument_name":"BTC_USDC-PERPETUAL"}'),
    Method("private/close_margin_pool", TRADE, p.OfPool,
           "Ours: close a pool that holds no position, order or money.", '"ok"',
           '{"pool_id":12}'),
    Method("private/move_margin", TRADE, p.MoveMarginParameters,
           "Ours: move collateral between own pools (or those of own sub-accounts), whole or not. "
           "The giving pool must stay covered with its orders, and no other own pool may get short "
           "by it.",
           "object: `currency`, `amount`, `pools` (both)",
           '{"from_pool_id":10,"to_pool_id":12,"currency":"USDC","amount":1000}'),
    Method("private/switch_margin_mode", TRADE, p.SwitchParameters,
           "Ours: move a contract's position and open orders to another own pool, into which its "
           "orders fill from then on. Both pools must be covered afterwards.",
           "object: `instrument_name`, `margin_mode`, `size`, `orders` (how many), `pools` (both)",
           '{"instrument_name":"BTC_USDC-PERPETUAL","pool_id":12}'),
    Method("private/create_subaccount", TRADE, p.CreateSubAccountParameters,
           "Open a sub-account, charged by the same margin model. It holds nothing, and trades "
           "with keys of its own.", "object: an account, as in private/get_subaccounts"),
    Method("private/get_subaccounts", READ, q.SubAccountsParameters,
           "The account and its sub-accounts; asked by a sub-account, itself.",
           "list: `id`, `username`, `type` (main, subaccount), `portfolio` ({currency: balance, "
           "equity, margins})", '{"with_portfolio":true}'),
    Method("private/get_subaccounts_details", READ, q.SubAccountsDetailsParameters,
           "Positions of the account and of its sub-accounts.",
           "list: `uid`, `positions`, `open_orders`",
           '{"currency":"USDC","with_open_orders":true}'),
    Method("private/submit_transfer_to_subaccount", TRADE, p.TransferParameters,
           "Move money from the account's cross pool to that of a sub-account.",
           "object: `id` (since the server started), `type`, `direction`, `currency`, `amount`, "
           "`state` (confirmed), `other_side`, `created_timestamp`, `updated_timestamp`",
           '{"currency":"USDC","amount":250,"destination":2}'),
    Method("private/submit_transfer_between_subaccounts", TRADE, p.TransferBetweenParameters,
           "Move money between the cross pools of two accounts of one owner, asked by the owner. "
           "Refused as in private/move_margin, which moves between any pools.",
           "object: as in private/submit_transfer_to_subaccount",
           '{"currency":"USDC","amount":250,"destination":2,"source":0}'),
    Method("private/deposit", TRADE, p.MoneyParameters, "Ours: bring money in from outside.",
           "object: `pool_id`, `currency`, `amount`, `balance` (the pool's)",
           '{"currency":"USDC","amount":1000}'),
    Method("private/withdraw", TRADE, p.MoneyParameters,
           "Ours: take money out. What stays must cover the pool.",
           "object: `pool_id`, `currency`, `amount`, `balance` (the pool's)",
           '{"currency":"USDC","amount":10.5}'),
    Method("public/submit_attestation", PUBLIC, p.AttestationParameters,
           "Ours: what an outside venue of this venue's file says of an account there. Whoever "
           "sends it, the signature counts. `attestation` is the JSON text that was signed.",
           "object: `outside_venue`, `account`, `sequence`, `credit` (USDC, of all outside venues "
           "of the account)", EXAMPLE_ATTESTATION),
    Method("private/get_attestations", READ, p.NoParameters,
           "Ours: what outside venues last said of this account, and what it counts for.",
           "object: `currency` (USDC), `credit`, `full_credit` (were all fresh), `initial_margin` "
           "and `maintenance_margin` (what coin and positions there add), `margin_period` (ms, in "
           "which a pool is closed out), `attestations`: list: `outside_venue`, `sequence`, "
           "`timestamp`, `age` (ms), `stage` (fresh, decaying, expired), `decay`, `haircut`, "
           "`transfer_delay` (ms), `too_slow` (the delay is not below the margin period: nothing "
           "counts, however fresh), `balances`, `positions`, `credit`, `full_credit`"),
    Method("batch/register", READ, p.NoParameters,
           "Ours: take part in the batches; a market that waits for its clients waits for this "
           "session.", "object: as in the channel `batch.any`"),
    Method("batch/ready", READ, p.ReadyParameters,
           "Ours: this registered session has spoken for the running batch. When every one has, "
           "the batch may close.",
           "object: `batch` (the running one), `counted` (false for another batch)"),
)  # fmt: skip

CHANNELS: tuple[Channel, ...] = (
    Channel("book.X.{raw,100ms,agg2}", PUBLIC, "The disclosed curve: first whole, then changes.",
            "`type` (snapshot, change), `timestamp`, `instrument_name`, `change_id`, "
            "`prev_change_id` (changes), `bids`, `asks` as [action, price, amount]",
            "book.BTC_USDC-PERPETUAL.raw"),
    Channel("ticker.X.{raw,100ms,agg2}", PUBLIC, "The ticker at once and after each cycle.",
            "as public/ticker", "ticker.BTC_USDC-PERPETUAL.raw"),
    Channel("quote.X", PUBLIC, "Best disclosed prices at once and when they change.",
            "`instrument_name`, `timestamp`, `best_bid_price`, `best_bid_amount`, "
            "`best_ask_price`, `best_ask_amount`; 0 where a side is empty",
            "quote.BTC_USDC-PERPETUAL"),
    Channel("trades.X.{raw,100ms,agg2}", PUBLIC, "The trade of each print.",
            "list of one: `trade_id`, `trade_seq` (the batch), `instrument_name`, `timestamp`, "
            "`direction`, `tick_direction`, `price`, `amount`, `contracts`, `mark_price`, "
            "`index_price`, `iv` (options)", "trades.BTC_USDC-PERPETUAL.raw"),
    Channel("trades.KIND.CURRENCY.{raw,100ms,agg2}", PUBLIC,
            "The trades of all prints of a batch in the contracts filed under a currency.",
            "list, as in `trades.X`", "trades.future.any.raw"),
    Channel("chart.trades.X.RESOLUTION", PUBLIC,
            "The newest candle at once and after each print; RESOLUTION as in "
            "public/get_tradingview_chart_data.",
            "`tick`, `open`, `high`, `low`, `close`, `volume`, `cost`",
            "chart.trades.BTC_USDC-PERPETUAL.1"),
    Channel("perpetual.X.{raw,100ms,agg2}", PUBLIC,
            "The funding rate of a perpetual at once and after each cycle.",
            "`timestamp`, `index_price`, `interest` (the rate of 8 hours)",
            "perpetual.BTC_USDC-PERPETUAL.raw"),
    Channel("deribit_price_index.NAME", PUBLIC, "An index at once and after each cycle.",
            "`index_name`, `price`, `timestamp`", "deribit_price_index.btc_usdc"),
    Channel("batch.X", PUBLIC, "Ours: the batch of a contract, at each change of phase.",
            "`batch` (its number), `phase` (collecting, sealed, printed), `timestamp` (when it "
            "began), `time_to_print` and `interval` (ms), `orders` (their number), "
            "`instrument_name`, `last_print`, `volume`, `surplus`", "batch.BTC_USDC-PERPETUAL"),
    Channel("batch.any", PUBLIC, "Ours: the batch of the whole market.",
            "as `batch.X`, with `prints` (a list) in place of the last four", "batch.any"),
    Channel("user.orders.{X | KIND.CURRENCY}.{raw,100ms,agg2}", READ, "Own orders as they change.",
            "raw: one order; else a list", "user.orders.any.any.raw"),
    Channel("user.trades.{X | KIND.CURRENCY}.{raw,100ms,agg2}", READ, "Own trades of each batch.",
            "list of user trades", "user.trades.any.any.raw"),
    Channel("user.changes.{X | KIND.CURRENCY}.{raw,100ms,agg2}", READ,
            "What changed in a contract.", "`instrument_name`, `orders`, `trades`, `positions`",
            "user.changes.BTC_USDC-PERPETUAL.raw"),
    Channel("user.portfolio.{CURRENCY | any}", READ,
            "Own money at once, after each cycle and each transfer; `any` sends one message a "
            "currency.", "as private/get_account_summary", "user.portfolio.USDC"),
    Channel("user.margin_calls", READ, "Ours: margin calls and the steps of a liquidation.",
            "`pool_id`, `outcome` (issued, standing, cured, expired, breached, liquidation, "
            "guaranteed: paid by the group's collateral, credit_fresh, credit_decaying, "
            "credit_expired), `amount`, `currency`, "
            "`deadline` (cycle), `timestamp`; liquidation: `step`, `instrument_name`, `size`; "
            "credit: `amount` that counts now, `full_amount` were it fresh, `outside_venue`",
            "user.margin_calls"),
    Channel("user.margin_warnings", READ,
            "Ours: a margin call has become likely, where the margin model forecasts. Said once, "
            "at the revaluation at which the probability reaches the model's threshold, and again "
            "only after it has been below.",
            "`pool_id`, `probability` of a call within `horizon_cycles`, `initial_margin` (the "
            "most that is forecast in them), `currency`, `timestamp`", "user.margin_warnings"),
)  # fmt: skip

METHOD_OF: dict[str, Method] = {method.name: method for method in METHODS}
