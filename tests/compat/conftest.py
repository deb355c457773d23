import aicore  # noqa: F401  (before a test file imports mmcv: puts its ops in place)
