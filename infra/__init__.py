"""Adapters: everything that talks to the world."""
