"""Titles as parts of web addresses."""


def slugify(title: str) -> str:
    """`title` in lower case, with one hyphen between words."""
    return title.lower().replace(" ", "-")


def unique(slug: str, taken: set[str]) -> str:
    """`slug`, or the first of `slug-2`, `slug-3`, ... that is not taken."""
    number = 1
    while slug in taken:
        number += 1
        slug = f"{slug}-{number}"
    return slug
