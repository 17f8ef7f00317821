"""`python -m radsynth` is the command line."""

from radsynth.cli import main

main()
