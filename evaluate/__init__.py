"""Read a checkpoint and a cache: perplexity, captions, retrieval, metrics, report."""
