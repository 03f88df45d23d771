"""``python -m studykit`` is the command line."""

from studykit.cli import main

if __name__ == "__main__":
    main()
