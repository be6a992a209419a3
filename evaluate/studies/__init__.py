"""Measurements beside the evaluation of one model: baselines, people, comparisons, other people's captions."""
