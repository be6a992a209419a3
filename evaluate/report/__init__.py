"""Pages that show what a model does, each one HTML file that opens from disk without network or server."""
