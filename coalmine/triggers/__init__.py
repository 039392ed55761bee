"""What makes a model due to be retrained: rules on what was seen. Pure."""
