"""What enters from outside: contracts that are listed, marks that revalue everything."""
