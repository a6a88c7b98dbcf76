"""Children: processes that this one starts, talks to, ends and reaps."""
