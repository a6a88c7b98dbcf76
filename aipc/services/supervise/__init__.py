"""`aipc.supervise`: programs that are started in order, restarted, and stopped in order."""
