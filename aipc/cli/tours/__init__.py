"""The tour: every mechanism between two processes."""
