"""How the unit tests draw their examples."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes tells how busy the machine is; the speed that is promised has benches of its own.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
