"""Groups of statistics that a study may add to the standard ones, one per file; the name of the file is the name in the config."""
