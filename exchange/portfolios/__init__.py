"""A portfolio as a file: read, priced, changed, stressed."""
