"""Numbers that are the same everywhere: a linear congruential generator."""


class Draw:
    """draw(n) is the next number from 0 to n - 1."""

    def __init__(self, seed: int):
        self.state = seed

    def __call__(self, limit: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        return (self.state >> 33) % limit

    def word(self, shortest: int = 3, longest: int = 10) -> str:
        """A word of small letters."""
        return "".join(chr(97 + self(26)) for _ in range(shortest + self(longest - shortest + 1)))
