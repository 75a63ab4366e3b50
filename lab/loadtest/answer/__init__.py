"""The answer to a buyer: each mode as a month of one camera, the one to take, and why, in words."""
