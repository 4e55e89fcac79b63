"""Models and attacks for hahbench."""
