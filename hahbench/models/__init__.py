"""Networks, their layers and their weights."""
