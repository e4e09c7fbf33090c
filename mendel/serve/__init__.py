"""An inference server whose answers are the same under every plan."""
