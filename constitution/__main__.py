"""`python -m constitution` is the command `constitution`."""

from constitution.cli import main

if __name__ == "__main__":
    main()
