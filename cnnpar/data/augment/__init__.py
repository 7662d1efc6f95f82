"""Random augmentation of training images, computed for each batch; no augmented data set is stored."""
