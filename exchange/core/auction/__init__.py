"""One uniform price per contract: the price, who is filled, what is rationed."""
