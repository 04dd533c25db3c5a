"""Which scenarios there are, and the profit and loss of one lot of everything in each."""
