"""What is stored: the state of a venue and its parts. Everything else is derived from it."""
