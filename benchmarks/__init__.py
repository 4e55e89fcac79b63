"""hahbench's speed and results beside those of other libraries; not part of the package."""
