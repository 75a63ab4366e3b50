"""`make attack`: what strangers and weak devices may try, against a real server, in one table."""
