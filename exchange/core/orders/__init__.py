"""How an order comes in and rests: its terms, what it may lose, the gate, the sealed batch."""
