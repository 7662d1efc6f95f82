"""Data: sources to one `Dataset`, batch arithmetic, augmentation. Knows no network and no processes."""
