"""Transforms of whole batches, one file each: the config names them in its `transforms:` section."""
