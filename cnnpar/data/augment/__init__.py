"""Random variation of training images, made when a batch is taken; nothing is stored."""
