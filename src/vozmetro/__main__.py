"""`python -m vozmetro`."""

from vozmetro.cli import main

if __name__ == "__main__":
    main()
