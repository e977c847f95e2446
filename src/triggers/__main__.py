"""`python -m triggers` is `triggers`."""

from triggers.cli import main

main()
