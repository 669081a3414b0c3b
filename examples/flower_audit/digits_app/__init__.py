"""Two Flower clients on embedded digits, audited on both sides."""
