"""What people start from: `coalmine init`, `coalmine new model`, `coalmine new dataset`."""
