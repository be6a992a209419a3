"""Ranks of sentences for images and of images for sentences."""
