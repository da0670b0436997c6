"""Through HTTP, on real processes."""
