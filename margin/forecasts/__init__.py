"""Ranges and offsets that follow forecasts, and the margin of the cycles to come."""
