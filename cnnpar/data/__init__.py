"""Data: files to a `Dataset`, order of the samples, augmentation, normalisation. Imports no network and no engine."""
