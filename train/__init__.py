"""Stage 2: cached features and tokenised captions into a trained model. Touches no picture, needs no torchvision."""
