"""One compiled pass over all pools: requirements, equity, haircuts, and what need not be asked."""
