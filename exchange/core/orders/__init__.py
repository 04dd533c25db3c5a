"""How an order comes in: its terms, what it may lose, the gate, the sealed batch."""
