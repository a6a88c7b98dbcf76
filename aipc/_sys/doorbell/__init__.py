"""The table of waiting event loops, which all processes of a user share."""
