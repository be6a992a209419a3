"""Stage 2: cached features and tokenised captions into a trained model. Never touches a picture, needs no torchvision."""
