"""What is said to people: hints of errors, and the text of `repr`."""
