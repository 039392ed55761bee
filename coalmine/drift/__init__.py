"""Does what runs match Git? The rules: facts in, findings and alerts out. Nothing here asks anybody."""
