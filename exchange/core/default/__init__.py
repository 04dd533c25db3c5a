"""When a pool fails: groups pay, positions are liquidated, the waterfall takes the rest."""
