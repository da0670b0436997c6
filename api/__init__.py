"""The front door: HTTP in, use cases out."""
