"""HTTP resources, one noun a file."""
