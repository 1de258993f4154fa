"""Configuration: gathered once from files, environment and flags, checked, frozen."""
