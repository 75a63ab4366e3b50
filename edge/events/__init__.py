"""Zones, lines and events: what tracked objects do, told once each and settled by the cloud."""
