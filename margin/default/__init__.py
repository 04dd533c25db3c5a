"""The ladder of health: when to call, what to close at which price, who pays."""
