"""Breaks real processes under load and compares what was acknowledged with what arrived."""
