"""Reports: what an audit found, for a person to read and for a program to load.

One room a case, with its verdict and its page; how pages look, and how files are
written, they share.
"""
