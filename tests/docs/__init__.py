"""The documentation, held against the code it describes."""
