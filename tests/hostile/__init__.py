"""The api against what its own document makes a fuzzer think of."""
