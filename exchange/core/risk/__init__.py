"""What a pool must hold and has, under its venue's models, now and in the cycles to come."""
