"""What carrying the cloud's boxes is worth on clips, beside the goals."""
