"""Strategies: how encoder and labels become a predictor. One file each."""
