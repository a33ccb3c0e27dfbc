"""Side-by-side measurements on the embedded lab; never part of the tests."""
