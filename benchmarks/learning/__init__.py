"""What the default learning gives on recorded streams, with labels late, missing or in bursts."""
