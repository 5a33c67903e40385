"""The story that `editctl demo` tells: its scenes, and what they are played with."""
