"""What isolation costs, against plain Django: see ``__main__``."""
