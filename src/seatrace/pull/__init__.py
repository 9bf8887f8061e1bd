"""Metrics for whoever asks: a reader that serves OpenMetrics and JSON, without a collector."""
