"""`make demo`: two hosts joined in front of your eyes."""
