"""Self-contained HTML pages: what was scored, how it is spread, and pictures of it."""
