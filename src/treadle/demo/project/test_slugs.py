import unittest

from slugs import slugify, unique


class SlugTest(unittest.TestCase):
    def test_words_are_joined_by_hyphens(self):
        self.assertEqual(slugify("Warp and Weft"), "warp-and-weft")

    def test_runs_of_anything_else_become_one_hyphen(self):
        self.assertEqual(slugify("  Heddles,  shafts & treadles! "), "heddles-shafts-treadles")

    def test_a_taken_slug_gets_the_next_free_number(self):
        self.assertEqual(unique("loom", {"loom", "loom-2"}), "loom-3")


if __name__ == "__main__":
    unittest.main()
