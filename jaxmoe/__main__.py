"""`python -m jaxmoe`."""

from jaxmoe.cli import main

if __name__ == "__main__":
    main()
