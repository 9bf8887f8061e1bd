"""What seatrace costs: CPU time and instructions of a call, start-up, memory. All of it: ``python -m benchmarks``."""
