"""The benchmark: how fast and how punctual the service is, beside its peers and the limits of its parts."""
