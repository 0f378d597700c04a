"""Hot paths shared by many systems, in Numba: pure functions of arrays. Each has a naive twin in the tests."""
