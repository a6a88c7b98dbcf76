from . import rpc as rpc
