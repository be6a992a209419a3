"""Features that people already have, in the formats of other projects; formats.py lists them."""
