"""``python -m studykit`` is the command line."""

from studykit.cli import main

main()
