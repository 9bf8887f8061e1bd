"""What happens to a record between its end and its emission: pricing, redaction, truncation."""
