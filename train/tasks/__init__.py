"""What models learn: an objective, its batches and its validation, a file each."""
