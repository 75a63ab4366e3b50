"""Fused models: several networks look at one picture, and their answers become one."""
