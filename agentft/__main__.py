"""``python -m agentft`` is the same as ``agentft``."""

from agentft.cli.main import main

if __name__ == "__main__":
    main()
