"""Captions from a trained model, and why every word was chosen."""
