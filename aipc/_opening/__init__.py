"""Opening by URL: the table of schemes, and openers that return a mechanism's own type."""
