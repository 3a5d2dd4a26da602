"""Web pages for people: rating, editing and commenting on answers."""
