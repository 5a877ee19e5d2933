"""Data sets of images with one class each."""
