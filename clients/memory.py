"""A connection inside the same process: the venue's in-memory transport as a `Transport`."""
