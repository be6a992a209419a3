"""Generate captions from a trained model, and explain why each word was chosen."""
