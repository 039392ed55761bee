"""`python -m coalmine.cli`."""

from coalmine.cli import main

main()
