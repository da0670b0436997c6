"""The hands: takes what is due, claims it, calls, writes down what came of it."""
