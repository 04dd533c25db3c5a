"""`python -m exchange` is `uncross`."""

from exchange.cli import main

if __name__ == "__main__":
    main(prog_name="uncross")
