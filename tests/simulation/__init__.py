"""
A deterministic simulation: the real service, keeper, handler, worker, gate, store and batching in a made-up world.

The world (clocks, network, table, broker, targets, crashes) is drawn from one seed, so each history can be replayed.
"""
