"""What we remember: peewee models, one noun a file, and the migrations that make their tables."""
