"""The Python servers under test: each is one process that takes a port."""
