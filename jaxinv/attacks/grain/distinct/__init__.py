"""GRAIN for graphs whose nodes are all different, such as words of papers say."""
