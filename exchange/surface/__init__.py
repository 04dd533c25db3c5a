"""Volatility surfaces of options: SSVI with a correlation per expiry, fitted to auction prices."""
