"""`python -m medssl.cli`."""

from medssl.cli import main

main()
