"""The config of a study: YAML in, typed and validated settings out."""
