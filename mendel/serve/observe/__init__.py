"""What a server sees of itself: layers, times, the machine; sampled, and kept small."""
