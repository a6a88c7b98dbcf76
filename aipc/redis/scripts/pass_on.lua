-- A wake-up was for nobody. KEYS: the place
wake(KEYS[1], 1)
