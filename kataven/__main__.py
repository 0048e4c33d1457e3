"""`python -m kataven`: the program `kataven`, for environments without its script."""

from kataven.commands.program import main

if __name__ == "__main__":
    main()
