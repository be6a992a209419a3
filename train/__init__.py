"""Stage 2: train a model on cached features and captions. It reads no image file and does not need torchvision."""
