"""How every published figure is made; `docs/benchmarks.md` says what each one means."""
