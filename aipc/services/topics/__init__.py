"""Topics: one publisher, any number of subscribers, each with the messages that it asked for."""
