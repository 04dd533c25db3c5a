"""What outside venues attest, what it counts for here, and what its silence does."""
