"""The sections of params.yaml: a module for each, which says what its keys may be."""
