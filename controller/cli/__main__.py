"""`python -m controller.cli`: editctl where its script is not on the path."""

from controller.cli.main import main

main()
