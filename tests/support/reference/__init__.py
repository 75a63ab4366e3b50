"""The pages of docs/reference, written from the code: `python -m tests.support.reference`, or `make docs`."""
