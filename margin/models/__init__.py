"""Margin models given by formulas rather than by scenarios: integers in, integers out.

Each has its own module. `standard` is for pools of anything; the others give charges that are
proportional to size, which `linear` sums over all pools in one pass.
"""
