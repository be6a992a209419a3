"""What models learn: an objective with its batches and its validation, one file each."""
