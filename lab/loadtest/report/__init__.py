"""The report as one HTML file: tables and plots, with nothing fetched from anywhere."""
