"""Property tests fail for what they find, never for how long it took them."""

from hypothesis import settings

settings.register_profile("timers", deadline=None)
settings.load_profile("timers")
