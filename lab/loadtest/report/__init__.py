"""The report: tables on the terminal, and one HTML file with tables and plots that fetches nothing."""
