"""A requirement taken apart, so that its owner can read it."""
