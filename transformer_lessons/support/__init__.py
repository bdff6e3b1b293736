"""Plumbing that no lesson lists: files, assets, readers of formats, figures."""
