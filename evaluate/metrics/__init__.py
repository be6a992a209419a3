"""Scores of generated sentences."""
