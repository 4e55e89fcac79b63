"""The same attacks carried out by other libraries, to compare with."""
