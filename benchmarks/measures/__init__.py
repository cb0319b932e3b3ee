"""The benchmarks, one file each; ``python -m benchmarks`` finds them."""
