"""
Other systems that make calls later, each set up as its documentation recommends for speed.

The modules ``…_app`` run in an environment of their own, ``.venv-bench``; ``catalogue`` says how each is started.
"""
