"""Who owns what: accounts, margin pools and their parents, cash, positions, and what moves them."""
