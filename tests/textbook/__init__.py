"""The textbooks' programs: each half in C against the other half with aipc, and the pages that show them."""
