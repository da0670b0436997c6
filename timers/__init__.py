"""The core: what a timer is, how it moves, when and how it is called. Standard library only, no I/O."""
