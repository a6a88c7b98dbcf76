"""Services on top of channels: typed messages, calls, jobs, topics."""

import lazy_loader

# so that `aipc.rpc`, which __init__.pyi of the package above names, is imported at its first use
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
