"""Weights that leave the program, and weights that come back."""
