"""Scenes: pictures that the program draws itself, with captions, splits and true boxes."""
