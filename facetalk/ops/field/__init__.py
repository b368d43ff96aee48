"""The fields: what both backends take (`source`, `bounds`), their common face (`kernels`), and the CPU's."""
