"""The commands that read a checkpoint and a cache, a file each."""
