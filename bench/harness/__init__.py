"""What bench/run.py is made of: processes, targets, measurements, tables."""
