"""Stage 1: pictures through a fixed CNN into a feature cache."""
