"""What several processes reach together."""
