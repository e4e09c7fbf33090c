"""python -m mendel: the command line."""

from mendel.cli import main

main()
