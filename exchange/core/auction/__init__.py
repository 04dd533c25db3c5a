"""One uniform price per contract: sealed books, the price, who is filled, collars."""
