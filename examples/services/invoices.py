"""What the workers of `shop.py` compute. A small module of its own, because each worker imports it."""


def digits(size: int) -> int:
    """How many digits 3 to the power of `size` has; it takes long if `size` is large."""
    number, count = 3**size, 0
    while number:
        number //= 10
        count += 1
    return count


if __name__ == "__main__":
    print(digits(100))
