"""Builds for the Edge TPU: what can be told beforehand, Google's compiler, and the file that comes out."""
