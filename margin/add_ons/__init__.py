"""Liquidity, gamma and funding of every pool, after the scenarios."""
