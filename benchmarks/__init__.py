"""Each number the README quotes about speed and memory, by one command: `make bench`."""
