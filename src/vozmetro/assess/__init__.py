"""Quality of a subject on speech: what it heard or said, kept as a record, and scored."""
