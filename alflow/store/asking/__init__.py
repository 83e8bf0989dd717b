"""Asking: questions about frames and labels, as values or as text; and what is selected by them."""
