"""What a frame takes as JPEG, as video and as features, and what the cloud's answers keep of it."""
