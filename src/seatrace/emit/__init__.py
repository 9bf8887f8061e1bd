"""Records become telemetry: spans, metrics and events by the GenAI semantic conventions v0.1.0 and the older ones."""
