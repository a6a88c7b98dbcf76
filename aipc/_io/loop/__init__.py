"""What depends on the event loop: the only room that names asyncio and trio, with `readiness` and `poll_timer`."""
