"""Four cameras in one daemon beside one: memory, frames a second, and who gets how many."""
