"""`honne view`: runs of any size in a browser on this machine."""
